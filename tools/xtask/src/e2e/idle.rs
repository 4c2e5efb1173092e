//! What the operator does and may do while there is nothing to do: its requests, its permissions, its memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use okid_operator::permissions::{self, Objects};
use serde_json::{Value, json};

use super::environment::Environment;
use super::release::{NAMESPACE, RELEASE, name_of, replicas};
use super::report::{Report, figure, note};
use crate::process::mebibytes;

/// How long two replicas are watched.
const WATCHED_FOR: Duration = Duration::from_mins(1);
/// A leader lists one item every ten minutes, and when it begins to lead.
const LISTS_AT_MOST: usize = 2;
/// MiB of a replica that has nothing to do.
const RESIDENT_AT_MOST: f64 = 13.0;
const BYTES_PER_MEBIBYTE: f64 = 1_048_576.0;

/// Counts the requests of both replicas during a minute: for the Lease, watches, and now and then a list of one item.
pub(super) fn requests(environment: &Environment, report: &mut Report) -> Result<()> {
    let Some(before) = environment.audit_log()? else {
        report.skipped("the requests of idle replicas: this cluster writes no audit log");
        return Ok(());
    };
    sleep(WATCHED_FOR);
    let log = environment.audit_log()?.unwrap_or_default();
    let counts = count(log.get(before.len()..).unwrap_or_default())?;
    let words: Vec<_> = counts.iter().map(|((verb, what), count)| format!("{count} {verb} {what}")).collect();
    report.done(format_args!("two idle replicas in {} s: {}", WATCHED_FOR.as_secs(), words.join(", ")));
    for ((verb, resource), count) in &counts {
        let is_expected = match (verb.as_str(), resource.as_str()) {
            ("get" | "update", "leases") | ("watch", "verifications") => true,
            // By these a restored backup is noticed.
            ("list", "verifications") => *count <= LISTS_AT_MOST,
            _ => false,
        };
        ensure!(is_expected, "idle replicas sent {count} {verb} {resource}");
    }
    Ok(())
}

/// The requests in an audit log by verb and resource. A watch is counted when it begins.
fn count(log: &str) -> Result<BTreeMap<(String, String), usize>> {
    let mut counts = BTreeMap::new();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).context("read the audit log")?;
        let text =
            |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (verb, resource) = (text("/verb"), text("/objectRef/resource"));
        let counted = if verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
        if entry["stage"] == counted {
            *counts.entry((verb, resource)).or_insert(0) += 1;
        }
    }
    Ok(counts)
}

/// A permission: API group, resource, name (empty for all), verb.
type Rule = (String, String, String, String);

/// Compares what the API server lets the operator do with the list of what it needs.
pub(super) fn permissions(environment: &Environment, report: &mut Report) -> Result<()> {
    let granted = rules_of(environment, RELEASE)?;
    let everybody = rules_of(environment, "default")?;
    let granted: BTreeSet<_> = granted.difference(&everybody).cloned().collect();
    let needed: BTreeSet<Rule> = permissions::RUN
        .iter()
        .map(|permission| {
            let name = match permission.objects {
                Objects::All => "",
                Objects::Lease | Objects::Deployment => RELEASE,
            };
            let texts = [permission.api_group, permission.resource, name, permission.verb].map(str::to_owned);
            texts.into()
        })
        .collect();
    let extra: Vec<_> = granted.difference(&needed).collect();
    let missing: Vec<_> = needed.difference(&granted).collect();
    ensure!(
        extra.is_empty() && missing.is_empty(),
        "too much is granted: {extra:?}; too little: {missing:?}"
    );
    report.done(format_args!(
        "the ServiceAccount has the {} permissions of the list, and no others",
        needed.len()
    ));
    Ok(())
}

/// What `kubectl auth can-i --list` shows for a `ServiceAccount` in the operator's namespace.
fn rules_of(environment: &Environment, account: &str) -> Result<BTreeSet<Rule>> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": NAMESPACE},
    });
    let user = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
    let create = ["create", "--filename=-", "--output=json", "--validate=false", &user];
    let review: Value = serde_json::from_str(&environment.kubectl_with(&create, &review.to_string())?)
        .context("read the rules of a ServiceAccount")?;
    let mut all = BTreeSet::new();
    for rule in review["status"]["resourceRules"].as_array().into_iter().flatten() {
        let texts = |field: &str| -> Vec<String> {
            let texts = rule[field].as_array().into_iter().flatten();
            texts.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mut names = texts("resourceNames");
        if names.is_empty() {
            names.push(String::new());
        }
        for group in texts("apiGroups") {
            for resource in texts("resources") {
                for name in &names {
                    for verb in texts("verbs") {
                        all.insert((group.clone(), resource.clone(), name.clone(), verb));
                    }
                }
            }
        }
    }
    Ok(all)
}

/// Prints the memory of each replica: of its cgroup, as the kubelet reports it, and of its process.
pub(super) fn memory(environment: &Environment, is_optimized: bool) -> Result<()> {
    for replica in replicas(environment)? {
        let name = name_of(&replica);
        let container = replica.pointer("/status/containerStatuses/0/containerID").and_then(Value::as_str);
        let container =
            container.and_then(|id| id.rsplit('/').next()).context("find the container of a Pod")?;
        let cgroup = cgroup_memory(environment, &replica)?;
        figure(format_args!("{name}: memory of its cgroup"), cgroup, "MiB", RESIDENT_AT_MOST)?;
        let Some(Memory { resident, anonymous }) = process_memory(container)? else {
            note(format_args!("{name}: its process is not on this machine"));
            continue;
        };
        let what = format!("{name}: RssAnon {anonymous:.1} MiB, VmRSS");
        if is_optimized {
            figure(what, resident, "MiB", RESIDENT_AT_MOST)?;
        } else {
            note(format_args!("{what}: {resident:.1} MiB (not optimized: no goal)"));
        }
    }
    Ok(())
}

/// MiB that a replica's container holds, without pages that can be dropped.
fn cgroup_memory(environment: &Environment, replica: &Value) -> Result<f64> {
    let node = replica.pointer("/spec/nodeName").and_then(Value::as_str).context("find the node of a Pod")?;
    let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
    let summary: Value = serde_json::from_str(&environment.kubectl(&["get", "--raw", &path])?)
        .context("read the figures of the kubelet")?;
    let pods = summary["pods"].as_array();
    let pod = pods.into_iter().flatten().find(|pod| pod["podRef"]["name"] == name_of(replica));
    let bytes = pod.and_then(|pod| pod.pointer("/containers/0/memory/rssBytes")).and_then(Value::as_f64);
    Ok(bytes.context("find the memory of a Pod in the figures of the kubelet")? / BYTES_PER_MEBIBYTE)
}

/// MiB of a process.
struct Memory {
    resident: f64,
    anonymous: f64,
}

/// Memory of the operator's process in a container. `None` if it does not run on this machine.
fn process_memory(container: &str) -> Result<Option<Memory>> {
    let Ok(processes) = fs::read_dir("/proc") else { return Ok(None) };
    for process in processes {
        let process = process.context("list the processes")?.path();
        // A process may end at any time.
        let read = |file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
        if read("cgroup").contains(container) && read("cmdline").starts_with("/okid-operator\0run\0") {
            return parse_memory(&read("status")).map(Some);
        }
    }
    Ok(None)
}

/// Reads `/proc/PID/status`.
fn parse_memory(status: &str) -> Result<Memory> {
    Ok(Memory { resident: mebibytes(status, "VmRSS")?, anonymous: mebibytes(status, "RssAnon")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_once_by_verb_and_resource() {
        let entry = |verb: &str, resource: &str, stage: &str| {
            json!({"verb": verb, "stage": stage, "objectRef": {"resource": resource}}).to_string() + "\n"
        };
        let log = [
            entry("watch", "verifications", "ResponseComplete"),
            entry("watch", "verifications", "ResponseStarted"),
            entry("get", "leases", "ResponseComplete"),
            entry("get", "leases", "ResponseComplete"),
        ];
        let counts: Vec<_> = count(&log.concat()).unwrap().into_iter().collect();
        let expected = [("get", "leases", 2), ("watch", "verifications", 1)];
        let expected =
            expected.map(|(verb, resource, count)| ((verb.to_owned(), resource.to_owned()), count));
        assert_eq!(counts, expected);
    }

    #[test]
    fn the_memory_of_a_process_is_read_in_mebibytes() {
        let status = "Name:\tokid\nVmRSS:\t   13312 kB\nRssAnon:\t    2048 kB\n";
        let Memory { resident, anonymous } = parse_memory(status).unwrap();
        assert!((resident - 13.0).abs() < 0.01 && (anonymous - 2.0).abs() < 0.01);
        assert!(parse_memory("Name:\tokid\n").is_err());
    }
}
