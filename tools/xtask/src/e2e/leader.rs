//! The leader's Pod is deleted while sessions are being created.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::environment::{Environment, until};
use super::portal::Portal;
use super::release::{NAMESPACE as OPERATOR, RELEASE, name_of, replicas};
use super::report::{Report, figure};
use super::verification::{Name, all_in, list, manifest};

const NAMESPACE: &str = "handover";
const VERIFICATIONS: usize = 50;
/// How many creates the portal has seen when the Pod is deleted.
const STARTED: usize = 10;
/// Milliseconds: long enough that creates are in flight when the Pod is deleted.
const LATENCY: u32 = 500;
/// Seconds from the deletion of the Pod until another one leads. A leader that ends releases the Lease.
const HANDED_OVER_WITHIN: f64 = 3.0;
const LIMIT: Duration = Duration::from_mins(2);

/// Deletes the Pod, and compares the sessions with the attempts.
pub(super) fn is_replaced(environment: &Environment, report: &mut Report) -> Result<()> {
    environment.create_namespace(NAMESPACE)?;
    let portal = Portal(environment);
    let (sessions_before, creates_before) = (portal.sessions()?.len(), portal.creates()?);
    let leader = until("a replica leads", LIMIT, || leader(environment))?;
    let others: BTreeSet<_> = replicas(environment)?
        .iter()
        .map(name_of)
        .filter(|name| *name != leader)
        .map(str::to_owned)
        .collect();
    portal.set_latency(LATENCY)?;
    let checks: Vec<_> =
        (0..VERIFICATIONS).map(|number| manifest(&format!("check-{number}"), &json!({}))).collect();
    let (successor, took) = thread::scope(|scope| {
        let create = scope.spawn(|| {
            let create = ["create", "--namespace", NAMESPACE, "--filename=-"];
            environment.kubectl_with(&create, &list(&checks))
        });
        until("creates have started", LIMIT, || {
            Ok((portal.creates()? >= creates_before + STARTED).then_some(()))
        })?;
        let since = Instant::now();
        environment.kubectl(&["delete", "pod", &leader, "--wait=false", "--namespace", OPERATOR])?;
        let successor = until("another replica leads", LIMIT, || {
            Ok(self::leader(environment)?.filter(|holder| *holder != leader))
        })?;
        let took = since.elapsed();
        create.join().map_err(|_| anyhow!("the thread that creates panicked"))??;
        anyhow::Ok((successor, took))
    })?;
    let who = if others.contains(&successor) { "the other replica" } else { "the new replica" };
    let created = ["wait", "verifications", "--all", "--for=condition=SessionCreated", "--timeout=2m"];
    environment.kubectl(&[&created[..], &["--namespace", NAMESPACE]].concat())?;
    portal.set_latency(0)?;

    let sessions = portal.sessions()?.len() - sessions_before;
    let Counts { ids, attempts, orphans } = counts(&all_in(environment, NAMESPACE)?)?;
    ensure!(ids == VERIFICATIONS, "{VERIFICATIONS} Verifications have {ids} different sessions");
    ensure!(sessions == attempts, "the portal has {sessions} sessions for {attempts} attempts");
    ensure!(sessions == ids + orphans, "of {sessions} sessions, {ids} are in use and {orphans} are orphans");
    report.done(format_args!(
        "the leader's Pod deleted: {attempts} attempts, {sessions} sessions, {ids} in use, {orphans} orphans; {who} leads"
    ));
    figure("another replica led after", took.as_secs_f64(), "s", HANDED_OVER_WITHIN)
}

/// Whether a check that is open goes on.
pub(super) fn an_open_check_finishes(environment: &Environment) -> Result<()> {
    let check = Name(NAMESPACE, "check-0");
    Portal(environment).decide(&check.id(environment)?, "verified")?;
    check.wait(environment, "condition=Verified")
}

/// The Pod that leads, by the Lease. `None` if none does.
fn leader(environment: &Environment) -> Result<Option<String>> {
    let lease = environment.get(&["lease", RELEASE, "--namespace", OPERATOR, "--ignore-not-found"]);
    let holder =
        lease?.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default().to_owned();
    // The identity begins with the name of the Pod.
    Ok(replicas(environment)?.iter().map(name_of).find(|name| holder.starts_with(name)).map(str::to_owned))
}

/// What the status of all Verifications says.
struct Counts {
    /// Different ids of sessions.
    ids: usize,
    attempts: usize,
    orphans: usize,
}

fn counts(verifications: &[Value]) -> Result<Counts> {
    let mut ids = BTreeSet::new();
    let (mut attempts, mut orphans) = (0, 0);
    for verification in verifications {
        let status = &verification["status"];
        ids.insert(status["verificationId"].as_str().context("find the id of a session")?);
        let number = |name: &str| -> Result<usize> {
            let number = status["session"][name].as_u64().and_then(|number| usize::try_from(number).ok());
            number.with_context(|| format!("find session.{name} of a Verification"))
        };
        attempts += number("attempt")?;
        orphans += number("orphans")?;
    }
    Ok(Counts { ids: ids.len(), attempts, orphans })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_counted_once_and_attempts_and_orphans_are_added() {
        let one = |id: &str, attempt: u32, orphans: u32| json!({"status": {"verificationId": id, "session": {"attempt": attempt, "orphans": orphans}}});
        let Counts { ids, attempts, orphans } =
            counts(&[one("a", 1, 0), one("b", 3, 2), one("a", 1, 0)]).unwrap();
        assert_eq!((ids, attempts, orphans), (2, 5, 2));
        assert!(counts(&[json!({"status": {}})]).is_err());
    }
}
