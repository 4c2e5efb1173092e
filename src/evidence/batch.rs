//! Storing evidence, and removing it. That it is done is decided elsewhere; chosen here is in which order, how much at once,
//! and which of several troubles is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use kube::ResourceExt;
use tokio::time::{Instant, sleep_until};

use super::{
    destination::{DestinationError, DestinationRefused, ResolvedDestination},
    failures::StoreFailureLog,
    limits::EndpointLimits,
    own_objects::OwnObjects,
    upload::{Uploaded, absent},
};
use crate::{
    api::{EvidenceSpec, ImageKind, ObjectState, StoredObject, Verification, VerificationStatus},
    cluster::Read,
    failpoints::{Failpoint, failpoint},
    fairness::FairSemaphore,
    lifecycle::{Absence, EvidenceError, Facts, Missing, UploadOutcome, Wanted, outstanding},
    portal::{ApiKey, PortalUrl, VerificationId, budget::Budget},
    reconcile::{Observed, Reconciler},
    store::{ByteBudget, Endpoints, ObjectKey, StoreBreaker, StoreError, StoreHttp, Stores},
};

use jiff::Timestamp;

/// What was stored is written into status after this, though more is owed.
const BATCH: Duration = Duration::from_secs(10);
/// Images of one verification that are under way at once.
const AT_ONCE: usize = 4;
/// Most verifications whose evidence is stored or removed at the same time.
pub const STORING_AT_ONCE: usize = 16;
/// Of those, most of one namespace.
pub const STORING_AT_ONCE_OF_ONE: usize = STORING_AT_ONCE * 3 / 4;
/// Who waited longer than this for a place looks at the resource again before anything is stored.
pub(crate) const FRESH: Duration = Duration::from_secs(1);
pub(crate) const JSON: &str = "application/json";

/// What evidence is stored with.
pub struct EvidenceContext {
    /// The administrator's stores.
    pub stores: Stores,
    /// Hosts that credentials of a namespace may name.
    pub endpoints: Endpoints,
    /// The client for all stores.
    pub http: StoreHttp,
    /// What this process has put.
    pub own: OwnObjects,
    /// Bytes of images in flight.
    pub bytes: ByteBudget,
    /// Places for verifications whose evidence is stored or removed: [`STORING_AT_ONCE`], of one namespace
    /// [`STORING_AT_ONCE_OF_ONE`].
    pub places: Arc<FairSemaphore>,
    /// What each endpoint may take of both.
    pub limits: EndpointLimits,
    /// Stores that do not answer.
    pub breaker: StoreBreaker,
    /// What stores were said to complain of.
    pub told: StoreFailureLog,
    /// Images that may not be kept.
    pub forbidden: Vec<ImageKind>,
}

/// Whom to ask for images, as whom.
pub(crate) struct Source<'a> {
    pub(crate) portal: &'a PortalUrl,
    pub(crate) key: &'a ApiKey,
    pub(crate) id: &'a VerificationId,
    pub(crate) budget: Budget,
    /// What is known of the verification.
    pub(crate) facts: &'a Facts,
    /// How many images are asked for at the same time.
    pub(crate) at_once: usize,
    /// Whether something was sent to the store and not answered for certain, so that it may still arrive.
    pub(crate) may_arrive: AtomicBool,
}

/// Why something was not stored now.
pub(crate) enum NotNow {
    /// The portal's budget has no place before then.
    Later(Instant),
    /// What the portal does not have is asked for once more then.
    AskAgainAt(Timestamp),
    /// The resource changed while a place was waited for.
    Changed,
    /// The store says no, or nothing.
    Store(StoreError),
    /// Something else is there under this key.
    Conflict(ObjectKey),
    /// It may not be kept as asked.
    Destination(DestinationRefused),
    /// Other trouble.
    PortalError(EvidenceError),
}

impl NotNow {
    /// Whether other images would meet the same.
    fn is_for_all(&self) -> bool {
        match self {
            Self::Later(_) | Self::Changed | Self::Destination(_) => true,
            Self::AskAgainAt(_) | Self::Conflict(_) => false,
            Self::Store(error) => is_about_the_store(meaning(*error)),
            Self::PortalError(error) => is_about_the_store(*error),
        }
    }
}

/// What a trouble with the store means for the evidence.
const fn meaning(error: StoreError) -> EvidenceError {
    match error {
        StoreError::CredentialsRefused | StoreError::AccessDenied => EvidenceError::AccessDenied,
        StoreError::Conflict => EvidenceError::Conflict,
        StoreError::NoResponse(why) => EvidenceError::StoreSilent(why),
        StoreError::Unavailable => EvidenceError::StoreUnavailable,
        StoreError::BucketMissing => EvidenceError::BucketNotFound,
        StoreError::Misconfigured(_) | StoreError::Unsupported | StoreError::Refused => {
            EvidenceError::StoreMisconfigured
        }
        StoreError::NoConditionalWrites => EvidenceError::NoConditionalWrites,
    }
}

const fn is_about_the_store(error: EvidenceError) -> bool {
    match error {
        EvidenceError::StoreUnavailable
        | EvidenceError::StoreSilent(_)
        | EvidenceError::StoreRests
        | EvidenceError::BucketNotFound
        | EvidenceError::StoreMisconfigured
        | EvidenceError::NoConditionalWrites
        | EvidenceError::AccessDenied => true,
        EvidenceError::DestinationRefused
        | EvidenceError::Conflict
        | EvidenceError::ImageNotAvailable
        | EvidenceError::ImageUnusable
        | EvidenceError::PortalUnavailable
        | EvidenceError::FinalizerRefused => false,
    }
}

impl From<EvidenceError> for NotNow {
    fn from(error: EvidenceError) -> Self {
        Self::PortalError(error)
    }
}

impl From<StoreError> for NotNow {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DestinationError> for NotNow {
    fn from(no_place: DestinationError) -> Self {
        match no_place {
            DestinationError::Refused(refusal) => Self::Destination(refusal),
            DestinationError::Evidence(error) => Self::PortalError(error),
        }
    }
}

impl EvidenceContext {
    /// Stores evidence at these stores and endpoints; nothing is in flight yet.
    #[must_use]
    pub fn new(stores: Stores, endpoints: Endpoints, http: StoreHttp, forbidden: Vec<ImageKind>) -> Self {
        Self {
            stores,
            endpoints,
            http,
            own: OwnObjects::default(),
            bytes: ByteBudget::default(),
            places: FairSemaphore::new(STORING_AT_ONCE, STORING_AT_ONCE_OF_ONE),
            limits: EndpointLimits::default(),
            breaker: StoreBreaker::default(),
            told: StoreFailureLog::default(),
            forbidden,
        }
    }

    /// Whether the operator's administrator allows all of that to be kept.
    pub(crate) fn permit(&self, spec: &EvidenceSpec) -> Result<(), DestinationRefused> {
        let forbidden = spec.images.iter().map(|image| image.kind).find(|kind| self.forbidden.contains(kind));
        forbidden.map_or(Ok(()), |kind| Err(DestinationRefused::Forbidden(kind)))
    }
}

impl Reconciler {
    /// Stores what is owed, as far as it comes in one batch.
    pub(crate) async fn store(&self, object: &Verification, observed: &Observed) -> UploadOutcome {
        let mut stored = UploadOutcome::default();
        let end = Box::pin(self.store_owed(object, observed, &mut stored)).await;
        failpoint(Failpoint::AfterUpload).await;
        match end {
            Ok(()) => {}
            Err(NotNow::Later(until)) => stored.again_at = Some(self.clock.time(until)),
            Err(NotNow::AskAgainAt(at)) => stored.again_at = Some(at),
            Err(NotNow::Changed) => stored.again_at = Some(self.clock.now()),
            Err(NotNow::Store(error)) => stored.error = Some(meaning(error)),
            Err(NotNow::Conflict(key)) => {
                stored.error = Some(EvidenceError::Conflict);
                stored.refusal = Some(conflict_at(&key));
            }
            Err(NotNow::Destination(refusal)) => {
                stored.error = Some(EvidenceError::DestinationRefused);
                stored.refusal = Some(refusal.to_string());
            }
            Err(NotNow::PortalError(error)) => stored.error = Some(error),
        }
        stored
    }

    /// Stores what is owed; waits for the portal's rate for as long as a batch may take, and holds nothing meanwhile.
    async fn store_owed(
        &self,
        object: &Verification,
        observed: &Observed,
        stored: &mut UploadOutcome,
    ) -> Result<(), NotNow> {
        let status = object.status.clone().unwrap_or_default();
        let Some(spec) = observed.facts.evidence.spec.as_ref() else { return Ok(()) };
        self.evidence.permit(spec).map_err(NotNow::Destination)?;
        let id = status.verification_id.as_deref().map(VerificationId::parse);
        let caller = observed.caller().zip(observed.budget.clone());
        let (Some(((portal, key), budget)), Some(Ok(id))) = (caller, id) else {
            return Err(EvidenceError::PortalUnavailable.into());
        };
        let before = observed.facts.local_state.storing;
        // While the store takes nothing, one image finds out whether it does by now.
        let at_once = if before.is_some_and(|before| is_about_the_store(before.what)) { 1 } else { AT_ONCE };
        let may_arrive = AtomicBool::new(false);
        let source = Source { portal, key, id: &id, budget, facts: &observed.facts, at_once, may_arrive };
        let mut place = self.place(object, &spec.destination).await?;
        let begun = Instant::now();
        let end = loop {
            match self.store_in_place(object, &status, spec, &source, &mut place, stored).await {
                Err(NotNow::Later(until)) if until < begun + BATCH => sleep_until(until).await,
                end => break end,
            }
        };
        let may_arrive = source.may_arrive.load(Ordering::Relaxed);
        self.unless_gone(object, spec, &place, stored, (end, may_arrive)).await
    }

    /// Stores what is outstanding, once there is a place for it.
    async fn store_in_place(
        &self,
        object: &Verification,
        status: &VerificationStatus,
        spec: &EvidenceSpec,
        source: &Source<'_>,
        place: &mut ResolvedDestination,
        stored: &mut UploadOutcome,
    ) -> Result<(), NotNow> {
        let entered = self.evidence.enter(place).await.ok_or(EvidenceError::StoreRests)?;
        if entered.waited > FRESH {
            if !self.still_asks(object).await {
                return Err(NotNow::Changed);
            }
            *place = self.place(object, &spec.destination).await?;
        }
        let known = stored.objects.len();
        let end = Box::pin(self.store_with_credentials(object, status, spec, source, place, stored)).await;
        self.evidence.tell(object, place, &end);
        match hears(&end, stored.objects.get(known..).unwrap_or_default()) {
            Some(true) => entered.pass.answered(),
            Some(false) => entered.pass.was_silent(),
            None => {}
        }
        end
    }

    /// Whether the resource still asks for the same.
    pub(crate) async fn still_asks(&self, object: &Verification) -> bool {
        let namespace = object.namespace().unwrap_or_default();
        match self.read(&namespace, &object.name_any()).await {
            Read::Found(now) => now.resource_version() == object.resource_version(),
            Read::Gone | Read::Unknown => false,
        }
    }

    /// Credentials that the store does not take may have been replaced: they are read again, once.
    async fn store_with_credentials(
        &self,
        object: &Verification,
        status: &VerificationStatus,
        spec: &EvidenceSpec,
        source: &Source<'_>,
        place: &mut ResolvedDestination,
        stored: &mut UploadOutcome,
    ) -> Result<(), NotNow> {
        stored.prefix.clone_from(&place.prefix);
        match self.store_batch(object, status, spec, source, place, stored).await {
            Err(NotNow::Store(StoreError::CredentialsRefused)) => {}
            end => return end,
        }
        *place = self.place(object, &spec.destination).await?;
        self.store_batch(object, status, spec, source, place, stored).await
    }

    /// Stores what is outstanding, several at once; the manifest when nothing is.
    async fn store_batch(
        &self,
        object: &Verification,
        status: &VerificationStatus,
        spec: &EvidenceSpec,
        source: &Source<'_>,
        place: &ResolvedDestination,
        stored: &mut UploadOutcome,
    ) -> Result<(), NotNow> {
        if self.finds_manifest(source, place, stored).await? {
            return Ok(());
        }
        let begun = Instant::now();
        let is_in_vain = AtomicBool::new(false);
        let goes_on = || begun.elapsed() < BATCH && !is_in_vain.load(Ordering::Relaxed);
        let mut ends = stream::iter(outstanding(spec, &with(status, stored)))
            .take_while(|_| std::future::ready(goes_on()))
            .map(|wanted| self.keep(wanted, source, place))
            .buffer_unordered(source.at_once);
        let mut worst = None;
        let mut missing = Vec::new();
        while let Some(end) = ends.next().await {
            let end = match end {
                Ok(Uploaded::Stored(object)) => Ok(object),
                Ok(Uploaded::Missing(wanted, who)) => {
                    missing.push((wanted, who));
                    continue;
                }
                Err(not_now) => Err(not_now),
            };
            is_in_vain.fetch_or(end.as_ref().is_err_and(NotNow::is_for_all), Ordering::Relaxed);
            worst = self.note(end, stored, worst);
        }
        drop(ends);
        for end in self.told_missing(missing, source, stored).await {
            worst = self.note(end, stored, worst);
        }
        if let Some(not_now) = worst {
            return Err(not_now);
        }
        let after = with(status, stored);
        if outstanding(spec, &after).is_empty() {
            failpoint(Failpoint::BeforeManifest).await;
            self.check_presence(object, spec).await?;
            self.put_manifest(&after, source, place, stored).await?;
        }
        Ok(())
    }

    /// Notes what came of one object, and returns the worst trouble so far.
    fn note(
        &self,
        end: Result<StoredObject, NotNow>,
        stored: &mut UploadOutcome,
        worst: Option<NotNow>,
    ) -> Option<NotNow> {
        self.metrics.evidence(result_of(&end));
        match end {
            Ok(object) => {
                stored.objects.push(object);
                worst
            }
            Err(not_now) => Some(worse(worst, not_now)),
        }
    }

    /// What follows from each 404, once the portal was asked for the details where that matters.
    async fn told_missing(
        &self,
        missing: Vec<(Wanted, Missing)>,
        source: &Source<'_>,
        stored: &mut UploadOutcome,
    ) -> Vec<Result<StoredObject, NotNow>> {
        let facts = source.facts;
        if missing.iter().any(|(wanted, who)| facts.needs_details(wanted, *who)) {
            stored.details_answered = self.answers_for_session(source).await;
        }
        let mut ends = Vec::with_capacity(missing.len());
        for (wanted, who) in missing {
            let stem = wanted.stem();
            if who == Missing::Unclear && !stored.unclear.contains(&stem) {
                stored.unclear.push(stem);
            }
            ends.push(match facts.absence(&wanted, who, stored.details_answered) {
                Absence::Absent if wanted.required => Err(EvidenceError::ImageNotAvailable.into()),
                Absence::Absent => Ok(absent(&wanted)),
                Absence::AskAgainAt(at) => Err(NotNow::AskAgainAt(at)),
                Absence::NotKnown => Err(EvidenceError::PortalUnavailable.into()),
            });
        }
        ends
    }
}

/// What is said of a conflict: which object to look at.
fn conflict_at(key: &ObjectKey) -> String {
    format!(
        "another object is in the store in place of {}, and was not overwritten; find out who wrote it, move it, then set \
         okid.io/retry to a new value",
        key.as_str()
    )
}

/// A status with what was stored since.
fn with(status: &VerificationStatus, stored: &UploadOutcome) -> VerificationStatus {
    let evidence = Some(stored.added_to(status.evidence.as_ref()));
    VerificationStatus { evidence, ..status.clone() }
}

/// What came of an object, as metrics name it.
const fn result_of(end: &Result<StoredObject, NotNow>) -> &'static str {
    let trouble = match end {
        Ok(StoredObject { state: ObjectState::Stored, .. }) => return "stored",
        Ok(StoredObject { state: ObjectState::Absent, .. }) => return "absent",
        Err(NotNow::Later(_) | NotNow::AskAgainAt(_) | NotNow::Changed) => return "later",
        Err(NotNow::Store(trouble)) => meaning(*trouble),
        Err(NotNow::Conflict(_)) => EvidenceError::Conflict,
        Err(NotNow::Destination(_)) => EvidenceError::DestinationRefused,
        Err(NotNow::PortalError(trouble)) => *trouble,
    };
    match trouble {
        EvidenceError::AccessDenied => "access_denied",
        EvidenceError::StoreUnavailable | EvidenceError::StoreSilent(_) | EvidenceError::StoreRests => {
            "store_unavailable"
        }
        EvidenceError::BucketNotFound => "bucket_not_found",
        EvidenceError::StoreMisconfigured | EvidenceError::NoConditionalWrites => "store_misconfigured",
        EvidenceError::DestinationRefused => "destination_refused",
        EvidenceError::Conflict => "conflict",
        EvidenceError::ImageNotAvailable => "image_not_available",
        EvidenceError::ImageUnusable => "image_unusable",
        EvidenceError::PortalUnavailable => "portal_unavailable",
        EvidenceError::FinalizerRefused => "finalizer_refused",
    }
}

/// Whether the store answered; none where it was not asked. What it took counts more than what it then left unanswered.
fn hears(end: &Result<(), NotNow>, stored: &[StoredObject]) -> Option<bool> {
    let has_taken = stored.iter().any(|object| object.state == ObjectState::Stored);
    match end {
        _ if has_taken => Some(true),
        Err(NotNow::Store(trouble)) => Some(!trouble.is_silence()),
        Ok(()) | Err(NotNow::Conflict(_)) => Some(true),
        Err(
            NotNow::Later(_)
            | NotNow::AskAgainAt(_)
            | NotNow::Changed
            | NotNow::Destination(_)
            | NotNow::PortalError(_),
        ) => None,
    }
}

/// Of two reasons the one that lasts longer without a person.
fn worse(one: Option<NotNow>, other: NotNow) -> NotNow {
    let rank = |not_now: &NotNow| match not_now {
        NotNow::AskAgainAt(_) => 0,
        NotNow::Later(_) | NotNow::Changed => 1,
        NotNow::PortalError(EvidenceError::PortalUnavailable) => 2,
        NotNow::PortalError(EvidenceError::ImageNotAvailable | EvidenceError::ImageUnusable) => 4,
        NotNow::Store(StoreError::CredentialsRefused) => 5,
        NotNow::Store(StoreError::Conflict | StoreError::NoConditionalWrites)
        | NotNow::Conflict(_)
        | NotNow::Destination(_)
        | NotNow::PortalError(
            EvidenceError::Conflict | EvidenceError::DestinationRefused | EvidenceError::NoConditionalWrites,
        ) => 6,
        NotNow::Store(_)
        | NotNow::PortalError(
            EvidenceError::StoreUnavailable
            | EvidenceError::StoreSilent(_)
            | EvidenceError::StoreRests
            | EvidenceError::BucketNotFound
            | EvidenceError::StoreMisconfigured
            | EvidenceError::AccessDenied
            | EvidenceError::FinalizerRefused,
        ) => 3,
    };
    match one {
        Some(one) if rank(&one) >= rank(&other) => one,
        Some(_) | None => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::store::NoResponse;

    use super::*;

    #[test]
    fn a_store_that_took_something_is_not_silent_whatever_it_left_unanswered() {
        let object = |state| StoredObject {
            kind: crate::api::EvidenceKind::Front,
            key: "front-original.jpg".to_owned(),
            state,
            size: None,
            sha256: None,
            content_type: None,
        };
        let silence = || Err(NotNow::Store(NoResponse::TimedOut.into()));
        assert_eq!(hears(&silence(), &[]), Some(false));
        assert_eq!(hears(&silence(), &[object(ObjectState::Stored)]), Some(true));
        assert_eq!(hears(&silence(), &[object(ObjectState::Absent)]), Some(false), "the portal said that");
        let portal = || Err(NotNow::PortalError(EvidenceError::PortalUnavailable));
        assert_eq!(hears(&portal(), &[object(ObjectState::Absent)]), None);
        assert_eq!(hears(&portal(), &[object(ObjectState::Stored)]), Some(true));
        assert_eq!(hears(&Err(NotNow::Store(StoreError::Unavailable)), &[]), Some(true));
    }
}
