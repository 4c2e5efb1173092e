//! What a person and a reviewer do in a session, as data: single acts, and scripts of scheduled acts.
//!
//! Pure. May depend on nothing of this crate. `session` applies the acts, the time comes from `clock`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The result of a session, from the reviewer or the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The identity is confirmed.
    Verified,
    /// The identity is refused.
    Rejected,
    /// A person has to review the session; not final.
    NeedsManualReview,
    /// The session has expired.
    Expired,
}

/// The document that the person shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Document {
    /// Has a front and a back.
    IdCard,
    /// Has no back: a request for it gets 404.
    Passport,
}

/// One change of a session. In JSON: `"open"`, `{"complete":"terms"}`, `{"decide":"verified"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The person opens the link.
    Open,
    /// The person starts a module (by its name in the flow).
    Begin(String),
    /// The person completes a module.
    Complete(String),
    /// The person fails a module and may try again.
    Fail(String),
    /// The module is skipped.
    Skip(String),
    /// The person chooses the document to show.
    Show(Document),
    /// All modules are completed at once.
    CompleteAll,
    /// The reviewer decides. A later verdict replaces an earlier one.
    Decide(Verdict),
    /// The status becomes this text, whatever it is, until the next `Decide` or `SetStatus`.
    SetStatus(String),
}

/// One act of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Milliseconds (on the sandbox's clock) from the start of the script.
    #[serde(rename = "after_ms", with = "crate::clock::millis")]
    pub after: Duration,
    /// What happens then.
    pub act: Act,
}

/// A scripted person: scheduled acts. An act that is no longer possible is skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The acts; they happen in the order of their times.
    pub steps: Vec<Step>,
}

impl Person {
    /// A person without acts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an act, `after` this time (on the sandbox's clock) from the start of the script.
    #[must_use]
    pub fn then(mut self, after: Duration, act: Act) -> Self {
        self.steps.push(Step { after, act });
        self
    }

    /// Opens the link after one `pace`, completes terms, document, liveness and form, one per `pace`, and gets `verdict` after
    /// one more.
    #[must_use]
    pub fn typical(pace: Duration, verdict: Verdict) -> Self {
        let acts = [
            Act::Open,
            Act::Complete("terms".into()),
            Act::Complete("document".into()),
            Act::Complete("liveness".into()),
            Act::Complete("form_data".into()),
            Act::Decide(verdict),
        ];
        acts.into_iter()
            .zip(1u32..)
            .fold(Self::new(), |person, (act, step)| person.then(pace.saturating_mul(step), act))
    }
}
