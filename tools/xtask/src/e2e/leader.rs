//! The leader's Pod is deleted while sessions are being created.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::environment::{Environment, until};
use super::portal::Portal;
use super::release::{NAMESPACE as OPERATOR, RELEASE, name_of, replicas};
use super::report::{Report, figure, note};
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
    let audited_before = environment.audit_log()?.map_or(0, |log| log.len());
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
    figure("another replica led after", took.as_secs_f64(), "s", HANDED_OVER_WITHIN)?;
    if let Some(log) = environment.audit_log()? {
        let seconds = after_release(log.get(audited_before..).unwrap_or_default(), &leader)?;
        note(format_args!("of that, {seconds:.1} s after the deleted Pod had released the Lease"));
    }
    Ok(())
}

/// Seconds from the last write of the Lease by this Pod until another one wrote it, by the audit log.
fn after_release(log: &str, leader: &str) -> Result<f64> {
    let mut released: Option<Timestamp> = None;
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).context("read the audit log")?;
        let has_written = entry["verb"] == "update"
            && entry["stage"] == "ResponseComplete"
            && entry.pointer("/objectRef/resource").is_some_and(|resource| resource == "leases")
            && entry.pointer("/responseStatus/code").is_some_and(|code| code == 200);
        if !has_written {
            continue;
        }
        let time = entry["stageTimestamp"].as_str().unwrap_or_default();
        let time: Timestamp = time.parse().context("read a time of the audit log")?;
        let pod = entry.pointer("/user/extra/authentication.kubernetes.io~1pod-name/0");
        if pod.is_some_and(|pod| pod == leader) {
            released = Some(time);
        } else if let Some(released) = released {
            return Ok(time.duration_since(released).as_secs_f64());
        }
    }
    bail!("the audit log has no write of the Lease by another Pod after those by {leader}")
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

    #[test]
    fn a_handover_is_measured_from_the_last_write_of_the_leader_to_the_first_of_another() {
        let entry = |verb: &str, pod: &str, code: u16, second: u8| {
            json!({
                "verb": verb, "stage": "ResponseComplete", "objectRef": {"resource": "leases"},
                "user": {"extra": {"authentication.kubernetes.io/pod-name": [pod]}}, "responseStatus": {"code": code},
                "stageTimestamp": format!("2026-01-02T03:04:{second:02}.500000Z"),
            })
            .to_string()
                + "\n"
        };
        let renewed = entry("update", "a", 200, 1) + &entry("update", "a", 200, 3);
        let refused = entry("get", "b", 200, 4) + &entry("update", "b", 409, 4);
        let acquired = entry("update", "b", 200, 5) + &entry("update", "b", 200, 7);
        let seconds = after_release(&(renewed.clone() + &refused + &acquired), "a").unwrap();
        assert!((seconds - 2.0).abs() < 0.01, "{seconds}");
        assert!(after_release(&(renewed + &refused), "a").is_err());
    }
}
