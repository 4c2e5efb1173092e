//! The whole behaviour as two pure tables: what to do ([`decide`]) and what is then true ([`conclude`]).
//!
//! No client, clock, randomness, log or `async` in here: time and chance are arguments. May depend on `api`, `backoff`,
//! `priority`, the pure files of `portal` (`allowed`, `error`, `verification_id`, `wire`) and `store::no_response`; a
//! test checks the files.
//!
//! ```text
//! status ──read──▶ ParsedStatus ─┐
//!                               ├─decide─▶ Step ─(reconcile acts)─▶ StepOutcome ─conclude─▶ status, events, requeue
//! the world ─────▶ Facts ────────┘
//! ```

mod absence;
mod blocker;
mod cleanup;
mod conclude;
mod conditions;
mod decide;
mod event;
mod evidence;
mod evidence_error;
mod facts;
mod first_reconcile;
#[doc(hidden)]
pub mod fixtures;
mod interruption;
mod key_fact;
mod known_session;
mod local_state;
mod message;
mod moment;
mod poll_baseline;
mod portal_report;

mod schedule;
mod since;
mod state;
mod step;

pub(crate) use absence::Absence;
pub use absence::{Misses, Missing};
pub(crate) use blocker::GRACE as STALLED_AFTER;
pub use blocker::{Blocker, BlockerKind};
pub use cleanup::{CleanupFacts, DeletionOutcome};
pub(crate) use conclude::wait::{
    MISSING_KEY_CHECKED_EVERY, SECRET_READ_AGAIN, is_outage, missing_key_checked_at,
};
pub use conclude::{Conclusion, Requeue, claim, conclude};
pub use decide::{after_refusal, decide};
pub use event::Event;
pub use evidence::{
    DestinationFact, EvidenceFacts, EvidenceState, FinalizerOutcome, RemovalOutcome, UploadOutcome, Wanted,
    wanted,
};
pub(crate) use evidence::{evidence_state, nothing_to_store, outstanding};
pub use evidence_error::EvidenceError;
pub use facts::{Deadline, Due, Facts, InFlight, PollRequest, PortalFact};
pub(crate) use first_reconcile::{FirstReconcile, first_reconcile};
pub use key_fact::{KeyFact, KeyFault, KeyVersion};
pub use known_session::KnownSession;
pub use local_state::LocalState;
pub use message::message;
pub use moment::Moment;
pub(crate) use poll_baseline::UNKNOWN_ANSWER;
pub use poll_baseline::{CompactState, PollBaseline, Unchanged};
pub(crate) use portal_report::sanitize;
pub use portal_report::{PortalReport, PortalStatus, report};
pub use schedule::{
    Announced, Bounds, PollSchedule, Spacing, Stage, Times, jitter_seed, next_poll, poll_schedule,
};
pub(crate) use schedule::{spread, ttl_checked_at};
pub use since::Since;
pub use state::{Attempts, Contradiction, OpenPhase, ParsedStatus, State, attempts, restored};
pub use step::{
    CreateOutcome, NotAdmitted, PortalStep, Refusal, ReleaseWhen, Shown, Step, StepOutcome, Transition, Wait,
};

#[cfg(test)]
mod tests;
