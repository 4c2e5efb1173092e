//! A compact time. Pure.

use std::num::NonZeroU32;

use jiff::Timestamp;

/// A time in whole seconds since 1970, until 2106, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU32);

impl Moment {
    /// The second that contains a time; none outside 1970 to 2106.
    #[must_use]
    pub fn of(time: Timestamp) -> Option<Self> {
        u32::try_from(time.as_second()).ok().and_then(NonZeroU32::new).map(Self)
    }

    /// The first whole second at or after a time.
    pub(super) fn not_before(time: Timestamp) -> Option<Self> {
        let second = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
        Timestamp::from_second(second).ok().and_then(Self::of)
    }

    /// The start of that second.
    #[must_use]
    pub fn time(self) -> Timestamp {
        Timestamp::from_second(i64::from(self.0.get())).unwrap_or_default()
    }
}
