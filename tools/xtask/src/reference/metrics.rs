//! `docs/reference/metrics.md`: every metric with its type, labels and meaning. Pure but for the values of `process_*`, which
//! are not on the page.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use okid_operator::metrics::Metrics;

use super::{GENERATED, cell, code};

/// What the values of each label are.
const LABELS: [(&str, &str); 11] = [
    (
        "call",
        "`create`, `poll`, `probe` (finds out whether a portal responds again), `image`, `results` (details to store)",
    ),
    (
        "result",
        "`ok`, `stored` or `accepted`, or the kind of failure, such as `timed_out` or `key_rejected`; of calls of the webhook \
         port see docs/webhooks.md",
    ),
    ("name", "the name in the path of a call of the webhook port; empty if there is none of that name"),
    (
        "verb",
        "the verb of a Kubernetes API request: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`",
    ),
    ("resource", "the resource of a Kubernetes API request, such as `verifications/status`"),
    (
        "outcome",
        "`requeue` (at a known time), `await_change` (of the resource), `done` (the resource is gone)",
    ),
    ("reason", "the reason of the event; of closed connections of the webhook port see docs/webhooks.md"),
    ("phase", "`status.phase`"),
    ("portal", "host and port of an allowed portal"),
    ("state", "`paused` (as the portal asked), `breaker_open` (too many failures), `key_rejected`"),
    ("version", "the operator's version"),
];

/// A family of metrics, as the text describes it.
struct Family {
    /// The name as Prometheus stores it, without the suffixes of histograms.
    name: String,
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The page.
pub(crate) fn page() -> Result<String> {
    let text = Metrics::sample().text().context("write the metrics")?;
    let mut families = families(&text)?;
    families.sort_by(|a, b| a.name.cmp(&b.name));
    let mut page = format!("{GENERATED}\n\n# Metrics\n\n");
    writeln!(
        page,
        "`/metrics` at the admin address serves these metrics in the OpenMetrics text format. A metric with labels appears with \
         its first sample. A histogram has the suffixes `_bucket`, `_sum` and `_count`. No label names a person, a resource, a \
         key or a session."
    )?;
    for (title, prefix) in [("The operator", "okid_"), ("The process", "process_")] {
        writeln!(page, "\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|")?;
        for Family { name, kind, help, labels } in
            families.iter().filter(|family| family.name.starts_with(prefix))
        {
            let labels: Vec<_> = labels.iter().map(|label| code(label)).collect();
            writeln!(page, "| {} | {kind} | {} | {} |", code(name), labels.join(", "), cell(help))?;
        }
    }
    writeln!(page, "\n## Labels\n\n| label | values |\n|---|---|")?;
    for (label, values) in LABELS {
        writeln!(page, "| {} | {values} |", code(label))?;
    }
    Ok(page)
}

/// Reads the families from the text format.
fn families(text: &str) -> Result<Vec<Family>> {
    let mut families = Vec::new();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, help)| help).context("read the help of a metric")?;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("read the type of a metric")?;
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let (name, kind, help) = (format!("{name}{suffix}"), kind.to_owned(), help.to_owned());
            families.push(Family { name, kind, help, labels: BTreeSet::new() });
        } else if let Some((_, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let (labels, _) = rest.rsplit_once('}').context("read the labels of a metric")?;
            let names = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            let family: &mut Family = families.last_mut().context("read a metric")?;
            family.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    Ok(families)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_explained_and_every_metric_has_a_meaning() {
        let families = families(&Metrics::sample().text().unwrap()).unwrap();
        assert!(families.len() > 35, "{}", families.len());
        assert!(families.iter().all(|family| !family.help.is_empty()));
        let used: BTreeSet<_> =
            families.iter().flat_map(|family| &family.labels).map(String::as_str).collect();
        assert_eq!(used, LABELS.iter().map(|(label, _)| *label).collect());
        let page = page().unwrap();
        let row = "| `okid_portal_requests_total` | counter | `call`, `result` | Requests to portals, by call and result. |";
        assert!(page.contains(row), "{page}");
    }
}
