//! The whole behaviour as two pure tables: what to do ([`decide`]) and what is then true ([`conclude`]).
//!
//! No client, clock, randomness, log or `async` in here: time and chance are arguments. It imports `api`, `priority`
//! and the pure words of `portal` (`allowed`, `error`, `verification_id`, `wire`); a test reads these files and says so.
//!
//! ```text
//! status ──past──▶ State ─┐
//!                        ├─decide─▶ Step ─(done by turn)─▶ StepOutcome ─conclude─▶ status, events, when next
//! the world ─────▶ Facts ┘
//! ```

mod absence;
mod blocker;
mod conclude;
mod conditions;
mod decide;
mod event;
mod evidence;
mod facts;
mod fixtures;
mod interruption;
mod known_session;
mod local_state;
mod message;
mod poll_baseline;
mod portal_report;
pub mod reference;
mod schedule;
mod state;
mod step;

pub use absence::{Absence, Misses, Missing};
pub use blocker::Blocker;
pub use conclude::{
    Conclusion, Requeue, claim, conclude,
    wait::{KEY_SOUGHT_EVERY, SECRET_READ_AGAIN, is_outage, key_sought_again},
};
pub use decide::decide;
pub use event::Event;
pub use evidence::{
    DestinationFact, EvidenceError, EvidenceFacts, EvidenceState, FinalizerOutcome, RemovalOutcome,
    UploadOutcome, Wanted, evidence_state, nothing_to_store, outstanding, wanted,
};
pub use facts::{AdmissionFact, Deadline, Due, Facts, InFlight, KeyFact, KeyFault, PortalFact};
pub use interruption::{Interruption, Stall};
pub use known_session::KnownSession;
pub use local_state::{BlockerKind, GRACE as STALLED_AFTER, LocalState, Since};
pub use message::message;
pub use poll_baseline::{CompactState, Moment, PollBaseline, Unchanged};
pub use portal_report::{PortalReport, PortalStatus, report, sanitize};
pub use schedule::{
    Bounds, FirstReconcile, PollSchedule, Stage, Times, first_reconcile, next_poll, poll_schedule, spread,
};
pub use state::{Attempts, Contradiction, LOST_ANSWERS, OpenPhase, State, attempts, restored, state};
pub use step::{CreateOutcome, ReleaseWhen, Shown, Step, StepOutcome, Wait};

#[cfg(test)]
mod tests;
