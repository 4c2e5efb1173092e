//! `charts/okid-operator/README.md`: what the chart is, and its values. Pure.

use std::fmt::Write as _;

use anyhow::Result;

use super::values::{Value, Values};
use crate::reference::{GENERATED, cell, code};

/// What stands above the values. The links are absolute, because the page is published with the chart.
const INTRODUCTION: &str = "\
# okid-operator

An okID identity check as a Kubernetes resource. You apply a `Verification`. The operator requests a session from the okID portal
with the API key in a Secret, publishes the link for the person in `status.portalUrl`, and follows the session to `Verified`,
`Rejected` or `Expired`.

    helm install okid-operator charts/okid-operator --namespace okid-operator --create-namespace

The notes of the release end with a first `Verification` to paste. The chart needs Kubernetes 1.32 or newer. Without any values
the operator watches all namespaces, uses okID's test portal, and runs in two replicas that elect a leader.

- [Installing](https://github.com/okid-io/okid-operator/blob/main/docs/install.md): several namespaces, several releases,
  OpenShift, air gap, private certificate authorities, upgrade, uninstallation
- [Security](https://github.com/okid-io/okid-operator/blob/main/docs/security.md): who can do what with which permission
- [Everything else](https://github.com/okid-io/okid-operator/blob/main/docs/README.md)

## Values

A value that is not in these tables is refused.
";

/// The page.
pub(super) fn page(values: &Values) -> Result<String> {
    let mut page = format!("{GENERATED}\n\n{INTRODUCTION}");
    let mut section = "";
    for value in values.all.iter().filter(|value| !value.description.is_empty()) {
        if value.section != section {
            section = &value.section;
            write!(page, "\n### {section}\n\n| value | default | meaning |\n|---|---|---|\n")?;
        }
        let default = if value.is_group() { String::new() } else { code(&value.default.to_string()) };
        let (path, meaning) = (code(&value.path.join(".")), cell(&meaning(value)));
        writeln!(page, "| {path} | {} | {meaning} |", cell(&default))?;
    }
    Ok(page)
}

/// The description, and the values that are possible where there are few.
fn meaning(value: &Value) -> String {
    let possible = value.schema.get("enum").and_then(|list| list.as_array());
    let possible: Vec<_> = possible.into_iter().flatten().filter_map(|one| one.as_str()).map(code).collect();
    match possible.split_last() {
        Some((last, others)) if !others.is_empty() => {
            format!("{} One of {} and {last}.", value.description, others.join(", "))
        }
        _ => value.description.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_a_row_of_the_table_of_its_section() {
        let text = "## Logs\n\nlogs:\n  # The format.\n  # @schema {\"enum\": [\"json\", \"human\"]}\n  format: json\n";
        let page = page(&Values::parse(text).unwrap()).unwrap();
        let row = "| `logs.format` | `\"json\"` | The format. One of `json` and `human`. |\n";
        assert!(page.ends_with(&format!("### Logs\n\n| value | default | meaning |\n|---|---|---|\n{row}")));
    }
}
