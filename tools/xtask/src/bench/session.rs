//! A session as the operator's own tables follow it, without an operator. Pure.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::{SignedDuration, Timestamp};
use okid_operator::{
    api::{EvidenceSpec, VerificationStatus},
    lifecycle::{
        Announced, Bounds, CompactState, Conclusion, CreateOutcome, Deadline, EvidenceFacts, Facts,
        ParsedStatus, PollBaseline, PortalFact, Requeue, Spacing, StepOutcome, Times, claim, conclude,
        fixtures, jitter_seed, next_poll, poll_schedule,
    },
    portal::{AllowedPortals, Created, Details, PortalUrl, VerificationId},
};
use serde_json::{Value, json};

/// The modules that a person goes through.
pub(super) const MODULES: [&str; 3] = ["document", "liveness", "form_data"];
/// The default of `spec.activeDeadline`.
const DEADLINE: Duration = Duration::from_hours(168);

/// The parameters of a session.
pub(super) struct Plan<'a> {
    /// `metadata.uid`, the source of all jitter.
    pub(super) uid: &'a str,
    /// The portal's id of the session.
    pub(super) id: &'a str,
    /// Its portal.
    pub(super) portal: &'a PortalUrl,
    /// When it is created.
    pub(super) created_at: Timestamp,
    /// How long it lasts.
    pub(super) lasts: Duration,
    /// `spec.polling`.
    pub(super) bounds: Bounds,
    /// `spec.evidence`.
    pub(super) evidence: Option<EvidenceSpec>,
    /// What notifications announce.
    pub(super) announced: Announced,
}

/// An open session: its status, and what the operator would remember of it.
pub(super) struct Session {
    pub(super) id: VerificationId,
    pub(super) status: VerificationStatus,
    facts: Facts,
}

impl Session {
    /// Claims, creates and records as a reconcile would, and returns when the first poll is due.
    pub(super) fn create(plan: &Plan<'_>) -> Result<(Self, Timestamp)> {
        let id = VerificationId::parse(plan.id).context("name a session")?;
        let mut facts = facts(plan);
        let claimed = claim(&VerificationStatus::default(), 1, &facts);
        let created = Created {
            id: id.clone(),
            expires_at: Some(after(plan.created_at, plan.lasts)),
            flow: std::iter::once("terms").chain(MODULES).map(str::to_owned).collect(),
            modules: MODULES.map(str::to_owned).to_vec(),
            date: None,
        };
        let outcome = StepOutcome::Create(CreateOutcome::Answered(Ok(created)));
        let parsed = ParsedStatus::of(&facts.uid, &claimed);
        let Conclusion { status, next, local_state, .. } = conclude(&parsed, &outcome, &facts);
        facts.local_state = local_state;
        let status = status.context("record a create")?;
        let Some(first) = time_of(next, plan.created_at)? else { bail!("a new session has ended at once") };
        Ok((Self { id, status, facts }, first))
    }

    /// Polls, and returns the time of the next poll; `None` if the session has ended.
    pub(super) fn poll(&mut self, now: Timestamp, details: &Details) -> Result<Option<Timestamp>> {
        (self.facts.now, self.facts.portal_now) = (now, Some(now));
        let parsed = ParsedStatus::of(&self.facts.uid, &self.status);
        let outcome = StepOutcome::Poll { id: self.id.clone(), answer: Ok(details.clone()) };
        let Conclusion { status, next, local_state, .. } = conclude(&parsed, &outcome, &self.facts);
        self.status = status.context("conclude a poll")?;
        self.facts.local_state = local_state;
        time_of(next, now)
    }

    /// When the poll that is due now is sent instead, if it is deferred because a notification arrived then about any session.
    pub(super) fn deferred(&self, announced_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let Facts { local_state, bounds, .. } = &self.facts;
        let deadline = after(self.facts.created_at, DEADLINE);
        let baseline = PollBaseline::of(&self.status, local_state, *bounds, deadline, clocks(now))?;
        let compact = CompactState::of(local_state)?;
        Some(baseline.deferred(&compact, announced_at, now, self.facts.spacing())?.next)
    }

    /// The interval at that time if notifications announce nothing; `None` if the session was never polled.
    pub(super) fn interval(&self, now: Timestamp) -> Option<Duration> {
        let Facts { local_state, bounds, .. } = &self.facts;
        local_state.last_poll?;
        let schedule = poll_schedule(&self.status, local_state, *bounds, clocks(now));
        let usual = Spacing { announced: Announced::Nothing, ..self.facts.spacing() };
        Duration::try_from(next_poll(&schedule, now, usual).duration_since(now)).ok()
    }
}

/// The two clocks of the schedule, which agree.
const fn clocks(now: Timestamp) -> Times {
    Times { now, portal_now: Some(now) }
}

/// The spec of every resource, with the API server's defaults.
pub(super) fn spec() -> Value {
    json!({
        "apiKeySecretRef": {"name": "okid-api-key", "key": "apiKey"},
        "mode": "Direct",
        "readyWhen": "Verified",
        "onUnknownOutcome": "Retry",
        "activeDeadline": "168h",
        "suspend": false,
    })
}

/// `from` plus `by`, at most the latest time.
pub(super) fn after(from: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| from.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

/// The portal at this address; plain HTTP is allowed.
pub(super) fn allowed(url: &str) -> Result<PortalUrl> {
    let portals = AllowedPortals::new([url], true).context("allow a portal")?;
    portals.permit(url).context("permit a portal")
}

fn time_of(next: Requeue, now: Timestamp) -> Result<Option<Timestamp>> {
    match next {
        Requeue::Now => Ok(Some(now)),
        Requeue::At(at) => Ok(Some(at)),
        Requeue::Done => Ok(None),
        Requeue::AwaitChange => bail!("an open session has no next poll"),
    }
}

/// Facts that prevent no call.
fn facts(plan: &Plan<'_>) -> Facts {
    Facts {
        now: plan.created_at,
        portal_now: Some(plan.created_at),
        uid: plan.uid.to_owned(),
        jitter_seed: jitter_seed(plan.uid),
        created_at: plan.created_at,
        bounds: plan.bounds,
        announced: plan.announced,
        deadline: Deadline::Ahead(after(plan.created_at, DEADLINE)),
        portal: PortalFact::Allowed(plan.portal.clone()),
        evidence: EvidenceFacts { spec: plan.evidence.clone(), ..EvidenceFacts::default() },
        ..fixtures::facts()
    }
}
