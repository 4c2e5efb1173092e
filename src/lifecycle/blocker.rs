//! What prevents a session from being created, as far as the operator can tell, and what a person can do about it.
//! Pure.

use std::time::Duration;

use super::key_fact::KeyFault;
use crate::{
    api::Reason,
    portal::error::{NotSent, PortalError},
};

/// How long the same kind of error lasts before it is shown as Stalled.
pub(crate) const GRACE: Duration = Duration::from_mins(10);

/// The kinds of errors that only a person can resolve, shown as Stalled after a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockerKind {
    /// The portal refuses the key, or access with it.
    Key,
    /// The portal is not configured, or the URL is not a portal's.
    Misconfigured,
    /// The portal refuses the request.
    Invalid,
}

/// What prevents a session from being created or adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blocker {
    /// There is no usable API key.
    Key(KeyFault),
    /// The portal does not know the API key (401).
    KeyRejected,
    /// The portal denies access with the API key (403).
    AccessDenied,
    /// The portal denies access, and the session was created with an earlier key.
    KeyRotated,
    /// The portal refuses the request (400, 422 and other 4xx).
    RequestRejected,
    /// The portal reports a conflict (409).
    RequestConflict,
    /// The portal says that it is not configured.
    NotConfigured,
    /// The portal does not have this call (404, 410).
    CallNotFound,
    /// The portal redirects the call (3xx).
    Redirected,
    /// The portal's host name cannot be resolved.
    NameUnresolved,
    /// The portal's host refuses the connection.
    ConnectionRefused,
    /// No connection to the portal can be established.
    ConnectionFailed,
    /// No trusted TLS connection to the portal can be established.
    TlsFailed,
    /// The request cannot be built.
    RequestUnbuildable,
    /// Something between the operator and the portal refuses the request.
    RefusedOnTheWay,
    /// Requests to the portal get no usable response, including those of other resources.
    NoUsableAnswer,
}

impl Blocker {
    /// All blockers.
    pub const ALL: [Self; 20] = [
        Self::Key(KeyFault::SecretNotFound),
        Self::Key(KeyFault::KeyMissing),
        Self::Key(KeyFault::KeyEmpty),
        Self::Key(KeyFault::KeyMalformed),
        Self::Key(KeyFault::SecretForbidden),
        Self::KeyRejected,
        Self::AccessDenied,
        Self::KeyRotated,
        Self::RequestRejected,
        Self::RequestConflict,
        Self::NotConfigured,
        Self::CallNotFound,
        Self::Redirected,
        Self::NameUnresolved,
        Self::ConnectionRefused,
        Self::ConnectionFailed,
        Self::TlsFailed,
        Self::RequestUnbuildable,
        Self::RefusedOnTheWay,
        Self::NoUsableAnswer,
    ];

    /// The blocker behind a create that made no session; none where the portal asks for a pause.
    #[must_use]
    pub const fn of(error: &PortalError) -> Option<Self> {
        match error {
            PortalError::NotSent(NotSent::Resolve) => Some(Self::NameUnresolved),
            PortalError::NotSent(NotSent::Refused) => Some(Self::ConnectionRefused),
            PortalError::NotSent(NotSent::Connect) => Some(Self::ConnectionFailed),
            PortalError::NotSent(NotSent::Tls) => Some(Self::TlsFailed),
            PortalError::NotSent(NotSent::Build) => Some(Self::RequestUnbuildable),
            PortalError::KeyRejected => Some(Self::KeyRejected),
            PortalError::AccessDenied => Some(Self::AccessDenied),
            PortalError::Invalid => Some(Self::RequestRejected),
            PortalError::Conflict => Some(Self::RequestConflict),
            PortalError::NotFound => Some(Self::CallNotFound),
            PortalError::Redirected => Some(Self::Redirected),
            PortalError::Unconfigured => Some(Self::NotConfigured),
            PortalError::Unclear { status: _ } => Some(Self::RefusedOnTheWay),
            PortalError::Limited { retry_after: _ } => None,
            PortalError::Failed(_) => Some(Self::NoUsableAnswer),
        }
    }

    /// The blocker that a condition with this reason and message shows.
    #[must_use]
    pub(crate) fn shown_as(reason: Reason, message: &str) -> Option<Self> {
        let of_reason = || Self::ALL.into_iter().filter(move |blocker| blocker.reason() == reason);
        of_reason().find(|blocker| blocker.message() == message).or_else(|| of_reason().next())
    }

    /// The reason that conditions show.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Key(fault) => fault.reason(),
            Self::KeyRejected => Reason::KeyRejected,
            Self::AccessDenied => Reason::AccessDenied,
            Self::KeyRotated => Reason::KeyRotated,
            Self::RequestRejected | Self::RequestConflict => Reason::PortalRejectedRequest,
            Self::NotConfigured | Self::CallNotFound | Self::Redirected => Reason::PortalMisconfigured,
            Self::NameUnresolved
            | Self::ConnectionRefused
            | Self::ConnectionFailed
            | Self::TlsFailed
            | Self::RequestUnbuildable
            | Self::RefusedOnTheWay
            | Self::NoUsableAnswer => Reason::PortalUnreachable,
        }
    }

    /// The kind of error that only a person can resolve, if it is one.
    #[must_use]
    pub const fn blocker_kind(self) -> Option<BlockerKind> {
        match self {
            Self::KeyRejected | Self::AccessDenied | Self::KeyRotated => Some(BlockerKind::Key),
            Self::RequestRejected => Some(BlockerKind::Invalid),
            Self::NotConfigured | Self::CallNotFound | Self::Redirected => Some(BlockerKind::Misconfigured),
            Self::Key(_)
            | Self::RequestConflict
            | Self::NameUnresolved
            | Self::ConnectionRefused
            | Self::ConnectionFailed
            | Self::TlsFailed
            | Self::RequestUnbuildable
            | Self::RefusedOnTheWay
            | Self::NoUsableAnswer => None,
        }
    }

    /// What is wrong and what to do, in one or two sentences of the closed set; at most 256 characters.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Key(KeyFault::SecretNotFound) => {
                "The Secret named by spec.apiKeySecretRef does not exist in this namespace. Create it; it is picked up automatically."
            }
            Self::Key(KeyFault::KeyMissing) => {
                "The Secret does not have the key that spec.apiKeySecretRef.key names. Add it, or change spec.apiKeySecretRef."
            }
            Self::Key(KeyFault::KeyEmpty) => {
                "The API key in the Secret is empty. Update the Secret; it is picked up automatically."
            }
            Self::Key(KeyFault::KeyMalformed) => {
                "The value in the Secret cannot be an API key: it has spaces, line breaks or characters other than printable ASCII, or it is too long. Update the Secret."
            }
            Self::Key(KeyFault::SecretForbidden) => {
                "The operator is not allowed to read the Secret. Grant it the verb get on secrets in this namespace."
            }
            Self::KeyRejected => {
                "The portal rejects the API key (401). Check that it is active in the v2dashboard and that the Secret holds it; a new value is picked up automatically."
            }
            Self::AccessDenied => {
                "The portal denies access with this API key (403). Check what the key may do in the v2dashboard, or update the Secret; a new value is picked up automatically."
            }
            Self::KeyRotated => {
                "The portal denies access, and the session was created with an earlier API key. A key reads only the sessions that it created; put the earlier key into the Secret, as the entry that spec.apiKeySecretRef.previousKey names."
            }
            Self::RequestRejected => {
                "The portal refuses to create a session with this API key. Check the key's configuration in the v2dashboard."
            }
            Self::RequestConflict => {
                "The portal refuses to create a session because of a conflict (409). The operator is retrying; if this lasts, contact the portal's administrator."
            }
            Self::NotConfigured => {
                "The portal is not configured with its backend and API key. Contact the portal's administrator."
            }
            Self::CallNotFound => {
                "The portal does not have the call that creates sessions. Check that spec.portal is the base URL of an okID portal."
            }
            Self::Redirected => {
                "The portal redirects the request, and redirects are never followed. Set spec.portal to the portal's final base URL."
            }
            Self::NameUnresolved => {
                "The portal's host name cannot be resolved. Check spec.portal and the cluster's DNS; the operator is retrying."
            }
            Self::ConnectionRefused => {
                "The portal's host refuses the connection. Check that the portal is running and that the port in spec.portal is right; the operator is retrying."
            }
            Self::ConnectionFailed => {
                "No connection to the portal can be made. Check firewalls, proxies and network policies; the operator is retrying."
            }
            Self::TlsFailed => {
                "No trusted TLS connection to the portal can be made. Check its certificate and the operator's CA bundle; the operator is retrying."
            }
            Self::RequestUnbuildable => {
                "The request to the portal cannot be built. Check spec.portal; the operator is retrying."
            }
            Self::RefusedOnTheWay => {
                "Something between the operator and the portal refuses the request. Check gateways, proxies and firewalls on the way; the operator is retrying."
            }
            Self::NoUsableAnswer => {
                "Requests to the portal have no usable answer. The operator is retrying, one request at a time until the portal answers."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_is_recognized_by_its_reason_and_message() {
        for blocker in Blocker::ALL {
            assert_eq!(Blocker::shown_as(blocker.reason(), blocker.message()), Some(blocker));
            let of_another_version = Blocker::shown_as(blocker.reason(), "in other words").unwrap();
            assert_eq!(of_another_version.reason(), blocker.reason());
        }
        assert_eq!(Blocker::shown_as(Reason::AwaitingUser, ""), None);
    }

    #[test]
    fn a_message_about_no_response_does_not_mention_a_response() {
        for (cause, words) in [
            (NotSent::Resolve, "host name cannot be resolved"),
            (NotSent::Refused, "host refuses the connection"),
            (NotSent::Connect, "No connection"),
            (NotSent::Tls, "No trusted TLS connection"),
            (NotSent::Build, "cannot be built"),
        ] {
            let text = Blocker::of(&PortalError::NotSent(cause)).unwrap().message();
            assert!(text.contains(words), "{cause:?}: {text}");
            assert!(!["answer", "respon", "reject"].iter().any(|word| text.contains(word)), "{text}");
        }
        let failed = PortalError::Failed(crate::portal::error::Failed::TimedOut);
        assert!(Blocker::of(&failed).unwrap().message().contains("no usable answer"));
    }

    #[test]
    fn every_message_fits_its_bound_and_names_what_to_do() {
        for blocker in Blocker::ALL {
            let text = blocker.message();
            assert!(text.len() <= 256 && text.ends_with('.'), "{text}");
            let advice =
                ["Add ", "Check ", "Contact ", "Create ", "Grant ", "Set ", "Update ", "put ", "is retrying"];
            assert!(advice.iter().any(|words| text.contains(words)), "{text}");
        }
    }

    #[test]
    fn the_message_contains_what_the_portals_guide_recommends() {
        for (blocker, advice) in [
            (Blocker::NotConfigured, "Contact the portal's administrator"),
            (Blocker::KeyRejected, "Check that it is active in the v2dashboard"),
        ] {
            assert!(blocker.message().contains(advice), "{blocker:?}");
        }
    }
}
