//! What a person and a reviewer do to a session, as data: single acts, and scripts of acts in time.
//!
//! Pure: the session is moved by `session`, the time comes from `clock`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the reviewer (or the clock) says in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The identity is confirmed.
    Verified,
    /// The identity is refused.
    Rejected,
    /// A second person has to look; not an end.
    NeedsManualReview,
    /// The session has run out.
    Expired,
}

/// What the person holds before the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Document {
    /// Has a front and a back.
    IdCard,
    /// Has no back: the call for it answers 404.
    Passport,
}

/// One thing done to a session. In JSON: `"open"`, `{"complete":"terms"}`, `{"decide":"verified"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The person opens the link.
    Open,
    /// The person begins a module (by its name in the flow).
    Begin(String),
    /// The person completes a module.
    Complete(String),
    /// The person fails a module and may try again.
    Fail(String),
    /// The module is left out.
    Skip(String),
    /// Chooses the document that is shown.
    Show(Document),
    /// All modules are completed at once.
    CompleteAll,
    /// The reviewer speaks. A later verdict replaces an earlier one.
    Decide(Verdict),
    /// The status becomes this word, whatever it is, and stays until the next `Decide` or `Say`.
    Say(String),
}

/// One act of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Milliseconds (on the sandbox's clock) from the moment the script is given.
    #[serde(rename = "after_ms", with = "crate::clock::millis")]
    pub after: Duration,
    /// What is done then.
    pub act: Act,
}

/// A scripted person: acts at given offsets. An act that is no longer possible is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The acts; they are done in the order of their time.
    pub steps: Vec<Step>,
}

impl Person {
    /// A person who does nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an act, `after` (on the sandbox's clock) the script was given.
    #[must_use]
    pub fn then(mut self, after: Duration, act: Act) -> Self {
        self.steps.push(Step { after, act });
        self
    }

    /// Opens the link after one `pace`, completes terms, document, liveness and form, one per
    /// `pace`, and gets `verdict` one `pace` later.
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
            .fold(Self::new(), |person, (act, turn)| person.then(pace.saturating_mul(turn), act))
    }
}
