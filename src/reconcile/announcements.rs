//! What notifications announce before a poll sees it, learned for each portal and key. State only.
//!
//! Only a poll teaches anything: whether what it showed was new, and whether a notification had requested it. So neither
//! a forged notification nor a doubled one is believed.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    lifecycle::Announced,
    portal::{KeyIdentity, PortalUrl},
};

/// So many verdicts in a row must have been announced.
const VERDICTS: u8 = 3;
/// So many changes of progress in a row must have been announced.
const CHANGES: u8 = 10;
/// After so many in a row that were not, all is forgotten.
const MISSES: u8 = 2;
/// The most portals and keys of which something is known; far more than there are.
const MOST: usize = 10_000;

/// Something new that a poll showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The check has gone on.
    Progress,
    /// A person was verified or rejected.
    Verdict {
        /// Whether it was known before that the person had done everything.
        was_near: bool,
    },
}

/// What was learned, by portal and key.
#[derive(Debug, Default)]
pub(crate) struct Announcements(Mutex<HashMap<(PortalUrl, KeyIdentity), Learned>>);

#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    verdicts: Streak,
    progress: Streak,
    /// When the last notification arrived whose poll showed something new.
    confirmed_at: Option<Instant>,
}

/// What happened in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    announced: u8,
    missed: u8,
}

impl Announcements {
    /// What notifications of that portal for that key announce.
    pub(crate) fn of(&self, portal: &PortalUrl, key: KeyIdentity) -> Announced {
        self.learned(portal, key).announced()
    }

    /// Where notifications announce progress: when the last one arrived whose poll showed something new.
    pub(crate) fn confirmed_at(&self, portal: &PortalUrl, key: KeyIdentity) -> Option<Instant> {
        let learned = self.learned(portal, key);
        learned.confirmed_at.filter(|_| learned.announced() == Announced::Progress)
    }

    /// Learns from a poll that showed something new. `notified_at`: when the notification arrived that had requested it, if
    /// one had. True if less is expected from now on than before.
    pub(crate) fn learn(
        &self,
        portal: &PortalUrl,
        key: KeyIdentity,
        news: News,
        notified_at: Option<Instant>,
    ) -> bool {
        let mut known = self.0.lock();
        let of_key = (portal.clone(), key);
        if notified_at.is_none() && !known.contains_key(&of_key) {
            return false;
        }
        if known.len() >= MOST {
            known.clear();
        }
        let learned = known.entry(of_key).or_default();
        let before = learned.announced();
        learned.confirmed_at = learned.confirmed_at.max(notified_at);
        learned.note(news, notified_at.is_some());
        learned.announced() < before
    }

    fn learned(&self, portal: &PortalUrl, key: KeyIdentity) -> Learned {
        self.0.lock().get(&(portal.clone(), key)).copied().unwrap_or_default()
    }
}

impl Learned {
    fn note(&mut self, news: News, was_requested: bool) {
        match news {
            News::Progress => self.progress.note(was_requested),
            News::Verdict { was_near } => {
                self.verdicts.note(was_requested);
                if !was_near {
                    // Then progress gives no warning of a verdict.
                    self.progress = Streak::default();
                }
            }
        }
    }

    fn announced(self) -> Announced {
        if self.verdicts.announced < VERDICTS {
            Announced::Nothing
        } else if self.progress.announced < CHANGES {
            Announced::Verdicts
        } else {
            Announced::Progress
        }
    }
}

impl Streak {
    fn note(&mut self, was_requested: bool) {
        if was_requested {
            *self = Self { announced: self.announced.saturating_add(1), missed: 0 };
            return;
        }
        self.missed += 1;
        if self.missed >= MISSES {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::portal::{AllowedPortals, ApiKey};

    const NEAR: News = News::Verdict { was_near: true };

    /// What is expected after this news, each with whether a notification had requested the poll, and how often less was
    /// expected than before.
    fn after(news: &[(News, bool)]) -> (Announced, usize) {
        let (portal, key) = account("https://one.test", b"sk_one");
        let (announcements, now) = (Announcements::default(), Instant::now());
        let sank = news.iter().filter(|(news, was_requested)| {
            announcements.learn(&portal, key, *news, was_requested.then_some(now))
        });
        let sank = sank.count();
        (announcements.of(&portal, key), sank)
    }

    fn account(url: &str, key: &[u8]) -> (PortalUrl, KeyIdentity) {
        let portal = AllowedPortals::new([url], false).unwrap().iter().next().unwrap().clone();
        (portal, ApiKey::parse(key).unwrap().identity())
    }

    #[test]
    fn announced_verdicts_are_expected_after_three_and_forgotten_after_two_misses_in_a_row() {
        assert_eq!(after(&[(NEAR, true); 2]).0, Announced::Nothing);
        let learned = [(NEAR, true); 3];
        assert_eq!(after(&learned).0, Announced::Verdicts);
        let missed = |more: &[(News, bool)]| after(&[&learned[..], more].concat());
        assert_eq!(missed(&[(NEAR, false)]), (Announced::Verdicts, 0));
        assert_eq!(missed(&[(NEAR, false), (NEAR, true), (NEAR, false)]), (Announced::Verdicts, 0));
        assert_eq!(missed(&[(NEAR, false), (NEAR, false)]), (Announced::Nothing, 1));
        assert_eq!(missed(&[(NEAR, false), (NEAR, false), (NEAR, true)]), (Announced::Nothing, 1));
    }

    #[test]
    fn announced_progress_is_expected_only_where_verdicts_come_after_it() {
        let progress = [(News::Progress, true); 10];
        assert_eq!(after(&progress).0, Announced::Nothing);
        let learned = [&progress[..], &[(NEAR, true); 3]].concat();
        assert_eq!(after(&learned).0, Announced::Progress);
        let then = |more: &[(News, bool)]| after(&[&learned[..], more].concat());
        assert_eq!(then(&[(News::Progress, false)]), (Announced::Progress, 0));
        assert_eq!(then(&[(News::Progress, false); 2]), (Announced::Verdicts, 1));
        assert_eq!(then(&[(News::Verdict { was_near: false }, true)]), (Announced::Verdicts, 1));
        assert_eq!(then(&[(NEAR, false); 2]), (Announced::Nothing, 1));
    }

    #[test]
    fn a_notification_is_confirmed_by_what_its_poll_shows_and_the_last_one_counts() {
        let (portal, key) = account("https://one.test", b"sk_one");
        let (announcements, begun) = (Announcements::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        for seconds in 0..10 {
            announcements.learn(&portal, key, News::Progress, Some(at(seconds)));
        }
        assert_eq!(announcements.confirmed_at(&portal, key), None, "no verdict was announced");
        for seconds in [20, 22, 21] {
            announcements.learn(&portal, key, NEAR, Some(at(seconds)));
        }
        announcements.learn(&portal, key, News::Progress, None);
        assert_eq!(announcements.confirmed_at(&portal, key), Some(at(22)));
        announcements.learn(&portal, key, News::Progress, None);
        assert_eq!(announcements.confirmed_at(&portal, key), None, "two were not announced");
    }

    #[test]
    fn what_is_learned_holds_for_one_portal_and_key_and_misses_alone_take_no_memory() {
        let (announcements, now) = (Announcements::default(), Instant::now());
        let (portal, key) = account("https://one.test", b"sk_one");
        let others = [account("https://two.test", b"sk_one"), account("https://one.test", b"sk_two")];
        for _ in 0..VERDICTS {
            announcements.learn(&portal, key, NEAR, Some(now));
            for (portal, key) in &others {
                announcements.learn(portal, *key, NEAR, None);
            }
        }
        assert_eq!(announcements.of(&portal, key), Announced::Verdicts);
        assert!(others.iter().all(|(portal, key)| announcements.of(portal, *key) == Announced::Nothing));
        assert_eq!(announcements.0.lock().len(), 1);
    }
}
