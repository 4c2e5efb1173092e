//! Stores the evidence of one verification in batches: in which order, how many at once, and which of several errors is shown.
//! May depend on every other file of this module, and on `cluster`, `lifecycle` and `portal`.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{StreamExt, stream};
use kube::ResourceExt;
use tokio::time::{Instant, sleep_until};

use super::{
    access::FRESH,
    context::{Evidence, Source, Upload, UploadReport},
    not_now::{
        NotNow, conflict_at, evidence_error, has_responded, is_about_the_store, most_severe, result_of,
    },
    upload::{Uploaded, absent},
};
use crate::{
    api::{StoredObject, Verification},
    cluster::Read,
    failpoints::{Failpoint, failpoint},
    lifecycle::{Absence, EvidenceError, Facts, Missing, UploadOutcome, Wanted, outstanding},
    portal::VerificationId,
};

/// A batch ends after this, so that what it stored is written into status.
const BATCH: Duration = Duration::from_secs(10);
/// Images of one verification that are requested at the same time.
const AT_ONCE: usize = 4;

impl Evidence {
    /// Stores what is pending, as far as one batch goes.
    pub(crate) async fn store(
        &self,
        object: &Verification,
        facts: &Facts,
        source: Option<Source<'_>>,
    ) -> UploadReport {
        let mut report = UploadReport { outcome: UploadOutcome::default(), event: None };
        let end = match self.prepare(object, facts, source).await {
            Ok(Some(mut upload)) => Box::pin(self.store_pending(&mut upload, &mut report)).await,
            Ok(None) => Ok(()),
            Err(not_now) => Err(not_now),
        };
        failpoint(Failpoint::AfterUpload).await;
        let outcome = &mut report.outcome;
        match end {
            Ok(()) => {}
            Err(NotNow::Later(until)) => outcome.again_at = Some(self.clock.time(until)),
            Err(NotNow::AskAgainAt(at)) => outcome.again_at = Some(at),
            Err(NotNow::Changed) => outcome.again_at = Some(self.clock.now()),
            Err(NotNow::Store(error)) => outcome.error = Some(evidence_error(error)),
            Err(NotNow::Conflict(key)) => {
                outcome.error = Some(EvidenceError::Conflict);
                outcome.refusal = Some(conflict_at(&key));
            }
            Err(NotNow::Destination(refusal)) => {
                outcome.error = Some(refusal.error());
                outcome.refusal = Some(refusal.to_string());
            }
            Err(NotNow::Other(error)) => outcome.error = Some(error),
        }
        report
    }

    /// Resolves everything that an upload needs; `None` if no evidence is requested.
    async fn prepare<'a>(
        &self,
        object: &'a Verification,
        facts: &'a Facts,
        source: Option<Source<'a>>,
    ) -> Result<Option<Upload<'a>>, NotNow> {
        let Some(spec) = facts.evidence.spec.as_ref() else { return Ok(None) };
        self.context.permit(spec).map_err(NotNow::Destination)?;
        let id = object.status.as_ref().and_then(|status| status.verification_id.as_deref());
        let (Some(source), Some(Ok(id))) = (source, id.map(VerificationId::parse)) else {
            return Err(EvidenceError::PortalUnavailable.into());
        };
        // While the store fails, one image finds out whether it still does.
        let before = facts.local_state.storing;
        let at_once = if before.is_some_and(|before| is_about_the_store(before.what)) { 1 } else { AT_ONCE };
        let destination = self.resolve(object, &spec.destination).await?;
        let may_arrive = AtomicBool::new(false);
        Ok(Some(Upload { object, spec, facts, source, id, destination, at_once, may_arrive }))
    }

    /// Stores what is pending. Waits for the portal's rate for as long as a batch may take, and holds nothing
    /// meanwhile.
    async fn store_pending(&self, upload: &mut Upload<'_>, report: &mut UploadReport) -> Result<(), NotNow> {
        let begun = Instant::now();
        let end = loop {
            match self.store_with_permit(upload, &mut report.outcome).await {
                Err(NotNow::Later(until)) if until < begun + BATCH => sleep_until(until).await,
                end => break end,
            }
        };
        self.remove_if_gone(upload, report, end).await
    }

    /// Stores what is outstanding, once the store and its endpoint have a permit.
    async fn store_with_permit(
        &self,
        upload: &mut Upload<'_>,
        outcome: &mut UploadOutcome,
    ) -> Result<(), NotNow> {
        let access = self.context.enter(&upload.destination).await.ok_or(EvidenceError::StoreCircuitOpen)?;
        if access.waited > FRESH {
            if !self.is_unchanged(upload.object).await {
                return Err(NotNow::Changed);
            }
            upload.destination = self.resolve(upload.object, &upload.spec.destination).await?;
        }
        let known = outcome.objects.len();
        let end = Box::pin(self.store_with_credentials(upload, outcome)).await;
        let failure = match &end {
            Ok(()) => Some(None),
            Err(not_now) => not_now.store_error().map(Some),
        };
        if let Some(error) = failure {
            self.context.failures.note_upload(upload.object, &upload.destination, error);
        }
        match has_responded(&end, outcome.objects.get(known..).unwrap_or_default()) {
            Some(true) => access.pass.responded(),
            Some(false) => access.pass.did_not_respond(),
            None => {}
        }
        end
    }

    /// Whether the resource is unchanged since it was read.
    pub(super) async fn is_unchanged(&self, object: &Verification) -> bool {
        let namespace = object.namespace().unwrap_or_default();
        match self.cluster.get_ahead(&namespace, &object.name_any()).await {
            Read::Found(now) => now.resource_version() == object.resource_version(),
            Read::Gone | Read::Unknown => false,
        }
    }

    /// Credentials that the store refuses may have been replaced: they are read again, once.
    async fn store_with_credentials(
        &self,
        upload: &mut Upload<'_>,
        outcome: &mut UploadOutcome,
    ) -> Result<(), NotNow> {
        outcome.prefix.clone_from(&upload.destination.prefix);
        match self.store_batch(upload, outcome).await {
            Err(NotNow::Store(crate::store::StoreError::CredentialsRefused)) => {}
            end => return end,
        }
        upload.destination = self.resolve(upload.object, &upload.spec.destination).await?;
        self.store_batch(upload, outcome).await
    }

    /// Stores what is outstanding, several at once, and the manifest when nothing is.
    async fn store_batch(&self, upload: &Upload<'_>, outcome: &mut UploadOutcome) -> Result<(), NotNow> {
        if self.finds_manifest(upload, outcome).await? {
            return Ok(());
        }
        let begun = Instant::now();
        let is_in_vain = AtomicBool::new(false);
        let goes_on = || begun.elapsed() < BATCH && !is_in_vain.load(Ordering::Relaxed);
        let mut ends = stream::iter(outstanding(upload.spec, &upload.status_with(outcome)))
            .take_while(|_| std::future::ready(goes_on()))
            .map(|wanted| self.upload(upload, wanted))
            .buffer_unordered(upload.at_once);
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
            worst = self.note(end, outcome, worst);
        }
        drop(ends);
        for end in self.judge_missing(upload, missing, outcome).await {
            worst = self.note(end, outcome, worst);
        }
        if let Some(not_now) = worst {
            return Err(not_now);
        }
        if outstanding(upload.spec, &upload.status_with(outcome)).is_empty() {
            failpoint(Failpoint::BeforeManifest).await;
            self.check_presence(upload).await?;
            self.put_manifest(upload, outcome).await?;
        }
        Ok(())
    }

    /// Notes the result of one object, and returns the most severe error so far.
    fn note(
        &self,
        end: Result<StoredObject, NotNow>,
        outcome: &mut UploadOutcome,
        worst: Option<NotNow>,
    ) -> Option<NotNow> {
        self.metrics.evidence_object(result_of(&end));
        match end {
            Ok(object) => {
                outcome.objects.push(object);
                worst
            }
            Err(not_now) => Some(most_severe(worst, not_now)),
        }
    }

    /// What follows from each 404, after a poll of the session where that matters.
    async fn judge_missing(
        &self,
        upload: &Upload<'_>,
        missing: Vec<(Wanted, Missing)>,
        outcome: &mut UploadOutcome,
    ) -> Vec<Result<StoredObject, NotNow>> {
        let facts = upload.facts;
        if missing.iter().any(|(wanted, who)| facts.needs_details(wanted, *who)) {
            outcome.details_answered = self.answers_for_session(upload).await;
        }
        let mut ends = Vec::with_capacity(missing.len());
        for (wanted, who) in missing {
            let stem = wanted.stem();
            if who == Missing::Unclear && !outcome.unclear.contains(&stem) {
                outcome.unclear.push(stem);
            }
            ends.push(match facts.absence(&wanted, who, outcome.details_answered) {
                Absence::Absent if wanted.required => Err(EvidenceError::ImageNotAvailable.into()),
                Absence::Absent => Ok(absent(&wanted)),
                Absence::AskAgainAt(at) => Err(NotNow::AskAgainAt(at)),
                Absence::NotKnown => Err(EvidenceError::PortalUnavailable.into()),
            });
        }
        ends
    }
}
