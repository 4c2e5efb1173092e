//! The outcome of a check.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the check ended. Written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// The person is verified.
    Verified,
    /// The person is rejected.
    Rejected,
    /// The session expired.
    Expired,
    /// `spec.activeDeadline` passed.
    Failed,
}
