//! Tells that the API server gives turns no usable answer: once for a streak of what is the matter, not for each resource
//! at each try, because there may be a hundred thousand of them, and some have answers while others have none.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, error::Elapsed, sleep_until};

use super::error::ApiError;

/// A streak in which nothing failed for this long is over. Longer than any turn waits until it tries again.
const QUIET: Duration = Duration::from_mins(5);
/// A streak is over no sooner than this after its last failure, though all have succeeded since: an API server that answers
/// some and not others is one trouble.
const CALM: Duration = Duration::from_secs(10);
/// Most objects of a streak that are told apart. With more of them it is over when it is quiet.
const TOLD_APART: usize = 4096;

/// A call that turns make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ServerCall {
    /// Reading a resource before its turn.
    GetVerification,
    /// Writing what a turn concluded.
    PatchStatus,
    /// Writing the finalizer of evidence.
    PatchVerification,
    /// Reading an API key or the credentials of a store.
    GetSecret,
}

impl ServerCall {
    /// The verb of the right that the call needs.
    const fn verb(self) -> &'static str {
        match self {
            Self::GetVerification | Self::GetSecret => "get",
            Self::PatchStatus | Self::PatchVerification => "patch",
        }
    }

    /// The resource of the right that the call needs.
    const fn resource(self) -> &'static str {
        match self {
            Self::GetVerification | Self::PatchVerification => "verifications",
            Self::PatchStatus => "verifications/status",
            Self::GetSecret => "secrets",
        }
    }
}

/// What is the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matter {
    /// The API server gives no answer, or cannot: whatever is asked.
    Away,
    /// It does not know who asks: whatever is asked.
    Credentials,
    /// It refuses that call with that code.
    Refused(ServerCall, u16),
}

impl Matter {
    fn of(call: ServerCall, code: Option<u16>) -> Self {
        match code {
            None | Some(408 | 429 | 500..) => Self::Away,
            Some(401) => Self::Credentials,
            Some(code) => Self::Refused(call, code),
        }
    }

    /// Whether a success of that call says that it may be over.
    fn may_end_with(self, call: ServerCall) -> bool {
        match self {
            Self::Away | Self::Credentials => true,
            Self::Refused(refused, _) => refused == call,
        }
    }
}

/// What fails now, as far as it was told: one streak for each matter.
#[derive(Debug, Default)]
pub struct FailureLog(Arc<Mutex<Vec<Streak>>>);

#[derive(Debug)]
struct Streak {
    matter: Matter,
    /// What failed and has not succeeded since, by hashes of call and name.
    failing: HashSet<u64>,
    /// There were more of them than are told apart.
    is_crowded: bool,
    last: Instant,
    /// Somebody waits to tell its end.
    is_awaited: bool,
}

/// The end of a streak.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It is over.
    Now,
    /// It is over at that time, unless something fails before.
    At(Matter, Instant),
}

impl FailureLog {
    /// Takes note of how a call went, and tells the beginning and the end of a streak.
    pub(crate) fn note<T>(
        &self,
        call: ServerCall,
        (namespace, name): (&str, &str),
        answer: &Result<kube::Result<T>, Elapsed>,
    ) {
        let now = Instant::now();
        let (verb, resource) = (call.verb(), call.resource());
        let why = match answer {
            // What is gone fails no more, and what somebody else wrote first is an answer.
            Ok(Err(kube::Error::Api(status)))
                if status.code == 409 || (status.code == 404 && status.reason == "NotFound") =>
            {
                None
            }
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(ApiError::from(error)),
            Err(_) => Some(ApiError::SILENT),
        };
        let Some(why) = why else {
            for end in self.succeeded(call, (namespace, name), now) {
                match end {
                    End::Now => tell_end(call),
                    End::At(matter, at) => self.tell_end_later(call, matter, at),
                }
            }
            return;
        };
        if self.failed(call, why.code(), (namespace, name), now) {
            let (code, reason) = (why.code(), why.reason());
            tracing::warn!(
                verb,
                resource,
                code,
                reason,
                namespace,
                name,
                "the API server gives no usable answer; what needs one is tried again until it does"
            );
        }
    }

    /// Tells the end of a streak when it is over; nothing may be asked of the API server any more by then.
    fn tell_end_later(&self, call: ServerCall, matter: Matter, mut at: Instant) {
        let failures = Self(Arc::clone(&self.0));
        tokio::spawn(async move {
            loop {
                sleep_until(at).await;
                match failures.awaited(matter, Instant::now()) {
                    None => return,
                    Some(End::Now) => return tell_end(call),
                    Some(End::At(_, later)) => at = later,
                }
            }
        });
    }

    /// Whether the streak whose end is awaited is over.
    fn awaited(&self, matter: Matter, now: Instant) -> Option<End> {
        let mut local_state = self.0.lock();
        let streak = local_state.iter_mut().find(|streak| streak.matter == matter)?;
        if streak.is_over(now) {
            local_state.retain(|streak| streak.matter != matter);
            return Some(End::Now);
        }
        if streak.failing.is_empty() && !streak.is_crowded {
            return Some(End::At(matter, streak.last + CALM));
        }
        streak.is_awaited = false;
        None
    }

    /// Whether this failure begins a streak.
    fn failed(&self, call: ServerCall, code: Option<u16>, whose: (&str, &str), now: Instant) -> bool {
        let mut local_state = self.0.lock();
        let matter = Matter::of(call, code);
        let what = hash(call, whose);
        let Some(known) = local_state.iter_mut().find(|streak| streak.matter == matter) else {
            let failing = HashSet::from([what]);
            local_state.push(Streak { matter, failing, is_crowded: false, last: now, is_awaited: false });
            return true;
        };
        let is_new = known.is_quiet(now);
        if is_new {
            (known.failing, known.is_crowded) = (HashSet::new(), false);
        }
        if known.failing.len() < TOLD_APART {
            known.failing.insert(what);
        } else if !known.failing.contains(&what) {
            known.is_crowded = true;
        }
        known.last = now;
        is_new
    }

    /// The streaks that this success ends.
    fn succeeded(&self, call: ServerCall, whose: (&str, &str), now: Instant) -> Vec<End> {
        let mut local_state = self.0.lock();
        let mut ends = Vec::new();
        if local_state.is_empty() {
            return ends;
        }
        let what = hash(call, whose);
        local_state.retain_mut(|streak| {
            let was_failing = streak.failing.remove(&what);
            if streak.is_awaited || !streak.matter.may_end_with(call) {
                return true;
            }
            if streak.is_over(now) {
                ends.push(End::Now);
                return false;
            }
            if was_failing && streak.failing.is_empty() && !streak.is_crowded {
                streak.is_awaited = true;
                ends.push(End::At(streak.matter, streak.last + CALM));
            }
            true
        });
        ends
    }
}

fn tell_end(call: ServerCall) {
    let (verb, resource) = (call.verb(), call.resource());
    tracing::info!(verb, resource, "the API server gives usable answers again");
}

impl Streak {
    fn is_over(&self, now: Instant) -> bool {
        let is_calm = now.saturating_duration_since(self.last) >= CALM;
        self.is_quiet(now) || (is_calm && self.failing.is_empty() && !self.is_crowded)
    }

    fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) > QUIET
    }
}

fn hash(call: ServerCall, whose: (&str, &str)) -> u64 {
    let mut hasher = DefaultHasher::new();
    (call, whose).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: ServerCall = ServerCall::PatchStatus;
    const ALICE: (&str, &str) = ("kyc", "alice");
    const BOB: (&str, &str) = ("kyc", "bob");

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_streak_is_told_once_whoever_fails_and_ends_when_all_have_succeeded() {
        let (failures, now) = (FailureLog::default(), Instant::now());
        assert!(failures.failed(CALL, Some(403), ALICE, now));
        assert!((0..100_000).all(|_| !failures.failed(CALL, Some(403), BOB, now)));
        let later = now + CALM;
        assert_eq!(failures.succeeded(CALL, BOB, later), [], "alice is refused still");
        assert_eq!(failures.succeeded(ServerCall::GetVerification, ALICE, later), []);
        assert_eq!(failures.succeeded(CALL, ALICE, later), [End::Now]);
        assert_eq!(failures.succeeded(CALL, ALICE, later), []);
        assert!(failures.failed(CALL, Some(403), BOB, later), "the next one is another streak");
    }

    /// The lines of a minute and a half in which each call goes as it is told.
    async fn lines(of: impl Fn(u32, usize) -> bool, objects: usize) -> Vec<(u64, bool)> {
        let (failures, start) = (FailureLog::default(), Instant::now());
        let calls = [ServerCall::GetVerification, ServerCall::PatchStatus, ServerCall::GetSecret];
        let codes = [None, Some(500), Some(503), Some(429)];
        let mut lines = Vec::new();
        let mut ends = Vec::new();
        for step in 0..300_u32 {
            for number in 0..objects {
                let name = number.to_string();
                let (whose, call) = (("kyc", name.as_str()), calls[number % 3]);
                let now = Instant::now();
                let since = now.duration_since(start).as_secs();
                if of(step, number) {
                    let code = codes[(number + usize::try_from(step).unwrap()) % 4];
                    if failures.failed(call, code, whose, now) {
                        lines.push((since, true));
                    }
                } else {
                    for end in failures.succeeded(call, whose, now) {
                        match end {
                            End::Now => lines.push((since, false)),
                            End::At(matter, at) => ends.push((matter, at)),
                        }
                    }
                }
            }
            tokio::time::advance(second(1)).await;
            let now = Instant::now();
            let due = std::mem::take(&mut ends);
            for (matter, at) in due {
                let end = if at > now { Some(End::At(matter, at)) } else { failures.awaited(matter, now) };
                match end {
                    None => {}
                    Some(End::Now) => lines.push((now.duration_since(start).as_secs(), false)),
                    Some(End::At(matter, at)) => ends.push((matter, at)),
                }
            }
        }
        lines
    }

    #[tokio::test(start_paused = true)]
    async fn one_secret_that_is_answered_now_and_then_is_one_streak() {
        let lines = lines(|step, _| step < 90 && step.is_multiple_of(2), 1).await;
        assert_eq!(lines, [(0, true), (98, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_two_minutes_is_two_lines_however_many_fail_in_how_many_ways() {
        // They come back one after the other.
        let is_away = |step, number| step < 120 + u32::try_from(number % 30).unwrap();
        let lines = lines(is_away, 200).await;
        assert_eq!(lines, [(0, true), (158, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_told_though_nothing_is_asked_any_more() {
        let failures = FailureLog::default();
        assert!(failures.failed(CALL, Some(403), ALICE, Instant::now()));
        let answer: Result<kube::Result<()>, Elapsed> = Ok(Ok(()));
        failures.note(CALL, ALICE, &answer);
        assert_eq!(failures.0.lock().len(), 1);
        tokio::time::sleep(CALM + second(1)).await;
        assert!(failures.0.lock().is_empty());
    }

    #[test]
    fn each_refusal_of_a_call_has_a_streak_of_its_own() {
        let (failures, now) = (FailureLog::default(), Instant::now());
        assert!(failures.failed(CALL, Some(422), ALICE, now));
        assert!(failures.failed(CALL, Some(403), ALICE, now));
        assert!(failures.failed(CALL, None, ALICE, now));
        assert!(failures.failed(CALL, Some(401), ALICE, now));
        assert!(failures.failed(ServerCall::GetSecret, Some(403), ALICE, now));
        assert!(!failures.failed(ServerCall::GetSecret, Some(401), ALICE, now));
    }

    #[test]
    fn a_streak_without_failures_is_over_after_five_minutes() {
        let (failures, now) = (FailureLog::default(), Instant::now());
        let later = now + QUIET + second(1);
        assert!(failures.failed(CALL, Some(403), ALICE, now));
        assert_eq!(failures.succeeded(CALL, BOB, now + QUIET), []);
        assert_eq!(failures.succeeded(CALL, BOB, later), [End::Now]);
        assert!(failures.failed(CALL, Some(403), ALICE, now));
        assert!(failures.failed(CALL, Some(403), BOB, later));
    }

    #[test]
    fn more_than_are_told_apart_end_when_it_is_quiet() {
        let (failures, now) = (FailureLog::default(), Instant::now());
        let names: Vec<_> = (0..=TOLD_APART).map(|number| number.to_string()).collect();
        let told = names.iter().filter(|name| failures.failed(CALL, Some(403), ("kyc", name), now));
        assert_eq!(told.count(), 1);
        let ends = |at| names.iter().any(|name| !failures.succeeded(CALL, ("kyc", name), at).is_empty());
        assert!(!ends(now + CALM));
        assert!(ends(now + QUIET + second(1)));
    }
}
