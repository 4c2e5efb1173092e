//! The whole behaviour as two pure tables: what to do ([`decide`]) and what is then true ([`conclude`]).
//!
//! No client, clock, randomness, log or `async` in here: time and chance are arguments. It imports `api`, `priority`
//! and the pure words of `portal` (`allowed`, `trouble`, `verification_id`, `wire`); a test reads these files and says so.
//!
//! ```text
//! status ──past──▶ Past ─┐
//!                        ├─decide─▶ Step ─(done by turn)─▶ Happened ─conclude─▶ status, events, when next
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
mod known;
mod message;
mod overlay;
mod past;
pub mod reference;
mod report;
mod routine;
mod sample;
mod schedule;
mod step;
mod streaks;

pub use absence::{Absence, Misses, Missing};
pub use blocker::Blocker;
pub use conclude::{
    Conclusion, KEY_SOUGHT_EVERY, Next, SECRET_READ_AGAIN, claim, conclude, is_outage, key_sought_again,
};
pub use decide::decide;
pub use event::Event;
pub use evidence::{
    DestinationFact, EvidenceFacts, EvidenceStanding, EvidenceTrouble, FinalizerEnd, Removed, Stored, Wanted,
    evidence_standing, nothing_to_store, outstanding, wanted,
};
pub use facts::{Deadline, Due, Facts, Gate, KeyFact, KeyFault, PortalFact, Quiet};
pub use known::KnownSession;
pub use message::message;
pub use overlay::{Overlay, Stall};
pub use past::{Contradiction, LOST_ANSWERS, Ledger, OpenPhase, Past, ledger, past, restored};
pub use report::{Report, Word, clean, report};
pub use routine::{Calm, Moment, NothingNew, Routine};
pub use schedule::{Bounds, FirstTurn, Pace, Stage, Times, first_turn, next_look, pace, spread};
pub use step::{CreateEnd, Happened, LetGo, Shown, Step, Wait};
pub use streaks::{GRACE as STALLED_AFTER, Grievance, Since, Streaks};

#[cfg(test)]
mod tests;
