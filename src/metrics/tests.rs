use std::collections::BTreeSet;

use openmetrics_parser::openmetrics::parse_openmetrics;

use super::*;

/// The names of all metrics as Prometheus stores them, without the suffixes of histograms.
pub(crate) fn names() -> BTreeSet<String> {
    let text = Metrics::sample().text().unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(family, kind): (&str, &str)| match kind {
        "counter" => format!("{family}_total"),
        "info" => format!("{family}_info"),
        _ => family.to_owned(),
    };
    types.map(name).collect()
}

/// The parser refuses the unit of a histogram, which the specification allows; `units_are_part_of_names` checks those.
fn without_units_of_histograms(text: &str) -> String {
    let is_of_histogram = |line: &str| {
        let family = line.strip_prefix("# UNIT ").and_then(|rest| rest.split(' ').next());
        family.is_some_and(|family| text.contains(&format!("# TYPE {family} histogram\n")))
    };
    text.split_inclusive('\n').filter(|line| !is_of_histogram(line)).collect()
}

#[test]
fn the_text_is_open_metrics_to_a_strict_parser() {
    let text = Metrics::sample().text().unwrap();
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    let exposition = parse_openmetrics(&without_units_of_histograms(&text)).unwrap();
    let families: BTreeSet<_> = exposition.families.keys().cloned().collect();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    assert_eq!(families, types.map(str::to_owned).collect());
}

#[test]
fn the_parser_refuses_what_is_not_open_metrics() {
    let text = without_units_of_histograms(&Metrics::sample().text().unwrap());
    for (right, wrong) in [
        ("# EOF\n", ""),
        ("okid_status_writes_total 0", "okid_status_writes 0"),
        ("okid_queue_depth 0", "okid_queue_depth zero"),
        (r#"{le="+Inf"}"#, r#"{le="31.0"}"#),
    ] {
        assert!(text.contains(right), "{right}");
        assert!(parse_openmetrics(&text.replacen(right, wrong, 1)).is_err(), "{wrong}");
    }
}

#[test]
fn units_are_part_of_names_once() {
    let text = Metrics::sample().text().unwrap();
    let units: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# UNIT ")?.split_once(' ')).collect();
    assert!(units.len() > 10, "{units:?}");
    for (family, unit) in &units {
        assert!(family.ends_with(&format!("_{unit}")), "{family}");
        assert_eq!(family.matches(unit).count(), 1, "{family}");
    }
    for name in names() {
        let family = name.strip_suffix("_total").unwrap_or(&name);
        let has_unit = family.ends_with("_seconds") || family.ends_with("_bytes");
        assert_eq!(has_unit, units.iter().any(|(with_unit, _)| *with_unit == family), "{name}");
    }
}

#[test]
fn the_process_and_the_build_have_the_standard_metrics() {
    let names = names();
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
        "process_max_fds",
        "okid_build_info",
    ] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    let text = Metrics::sample().text().unwrap();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap().parse().unwrap()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - value("process_start_time_seconds");
    assert!((-2.0..86_400.0).contains(&age), "{age}");
    assert!(value("process_resident_memory_bytes") > 1_000_000.0);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!((3.0..=value("process_max_fds")).contains(&value("process_open_fds")));
    let version = format!("okid_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version), "{text}");
}

#[test]
fn portals_of_one_host_show_the_longest_closure_and_everything_that_waits() {
    let metrics = Metrics::new();
    let closures =
        [(Some(Duration::from_secs(7)), 3), (None, 2)].map(|(left, waiting)| Closure { left, waiting });
    for order in [closures, [closures[1], closures[0]]] {
        metrics.closures(order.map(|closure| ("one.example", "breaker_open", closure)));
        let text = metrics.text().unwrap();
        for shown in ["closed{A} 1\n", "closed_seconds{A} 7.0\n", "waiting{A} 5\n"] {
            let labels = r#"{portal="one.example",state="breaker_open"}"#;
            assert!(text.contains(&format!("okid_portal_{}", shown.replace("{A}", labels))), "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_by_result_and_timed_by_call() {
    let metrics = Metrics::new();
    for result in ["ok", "limited"] {
        let request = metrics.portal_request("create");
        tokio::time::advance(Duration::from_millis(300)).await;
        request.end(result);
    }
    let text = metrics.text().unwrap();
    for line in [
        r#"okid_portal_requests_total{call="create",result="ok"} 1"#,
        r#"okid_portal_requests_total{call="create",result="limited"} 1"#,
        r#"okid_portal_request_duration_seconds_bucket{le="0.25",call="create"} 0"#,
        r#"okid_portal_request_duration_seconds_bucket{le="0.5",call="create"} 2"#,
        r#"okid_portal_request_duration_seconds_count{call="create"} 2"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
