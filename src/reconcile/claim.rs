//! A claim without a recorded outcome, as this process has found it. State only.

use tokio::time::Instant;

use crate::api::Session;

/// A claim without a recorded outcome.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// The number of the attempt.
    attempt: i32,
    /// Who wrote it.
    holder: Option<String>,
    /// When this process first saw it.
    pub(crate) seen: Instant,
    /// Whether this process knows that its request was not sent.
    pub(crate) never_sent: bool,
}

impl Claim {
    /// A claim that this process sees for the first time.
    pub(crate) fn found(session: &Session) -> Self {
        let Session { attempt, holder, .. } = session;
        Self { attempt: *attempt, holder: holder.clone(), seen: Instant::now(), never_sent: false }
    }

    /// A claim that this process tried to write at that time. It did not send the request.
    pub(crate) fn never_sent(session: &Session, at: Instant) -> Self {
        Self { seen: at, never_sent: true, ..Self::found(session) }
    }

    /// Whether it is the claim of this session. After a rollback of etcd another claim may have the same number.
    pub(crate) fn is_of(&self, session: &Session) -> bool {
        self.attempt == session.attempt && self.holder == session.holder
    }

    /// Bytes behind its pointers.
    pub(crate) fn heap(&self) -> usize {
        self.holder.as_ref().map_or(0, String::capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_of_the_same_number_by_another_holder_is_another_claim() {
        let session = Session { attempt: 1, holder: Some("one/0".to_owned()), ..Session::default() };
        let claim = Claim::found(&session);
        assert!(claim.is_of(&session));
        assert!(!claim.is_of(&Session { attempt: 2, ..session.clone() }));
        assert!(!claim.is_of(&Session { holder: Some("one/1".to_owned()), ..session.clone() }));
        assert!(!claim.is_of(&Session { holder: None, ..session }));
    }
}
