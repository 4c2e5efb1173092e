//! What the portal reported, sanitized and cut to the bounds of status. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::state::OpenPhase;
use crate::{api::Outcome, portal::wire::Details};

/// Longest name of a status or module that is recorded, in characters.
const WORD: usize = 64;
/// The most entries of a list or map in status.
const ENTRIES: usize = 16;

/// The portal's status of the session, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortalStatus {
    /// Still open.
    Open(OpenPhase),
    /// One of the three outcomes, compared byte for byte as the guide's own example does.
    End(Outcome),
    /// An unknown status: never an end, never a success.
    Unknown,
    /// No status at all.
    Missing,
}

/// An answer about a session, ready for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalReport {
    /// The status, as far as it is known.
    pub status: PortalStatus,
    /// The portal's own name of the status, sanitized.
    pub raw: Option<String>,
    /// The state of each module, sanitized.
    pub progress: BTreeMap<String, String>,
    /// The portal's time of the last change, unless it is later than the response itself.
    pub updated_at: Option<Timestamp>,
}

/// Reads a response.
#[must_use]
pub fn report(details: &Details) -> PortalReport {
    PortalReport {
        status: details.current.as_deref().map_or(PortalStatus::Missing, portal_status),
        raw: details.current.as_deref().and_then(sanitize),
        progress: details
            .progress
            .iter()
            .filter_map(|(name, value)| Some((sanitize(name)?, sanitize(value)?)))
            .take(ENTRIES)
            .collect(),
        updated_at: details.updated_at.and_then(storable).filter(|stamp| !is_after(*stamp, details.date)),
    }
}

/// Whether a stamp is later than its response. Such a stamp is ignored, because it would make later answers look
/// outdated.
fn is_after(stamp: Timestamp, date: Option<Timestamp>) -> bool {
    date.is_some_and(|date| stamp > date)
}

fn portal_status(current: &str) -> PortalStatus {
    match current {
        "verified" => return PortalStatus::End(Outcome::Verified),
        "rejected" => return PortalStatus::End(Outcome::Rejected),
        "expired" => return PortalStatus::End(Outcome::Expired),
        _ => {}
    }
    if current.len() > WORD {
        return PortalStatus::Unknown;
    }
    match current.to_ascii_lowercase().replace('-', "_").as_str() {
        "generated" => PortalStatus::Open(OpenPhase::AwaitingUser),
        "initiated" | "in_progress" => PortalStatus::Open(OpenPhase::InProgress),
        "validating" => PortalStatus::Open(OpenPhase::Processing),
        "needs_manual_review" | "needs_template" => PortalStatus::Open(OpenPhase::InReview),
        _ => PortalStatus::Unknown,
    }
}

/// A text that status can hold: printable ASCII, at most 64 characters; none if nothing is left.
#[must_use]
pub(crate) fn sanitize(text: &str) -> Option<String> {
    let cleaned: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(WORD).collect();
    let cleaned = cleaned.trim();
    (!cleaned.is_empty()).then(|| cleaned.to_owned())
}

/// A list that status can hold.
pub(crate) fn sanitize_list(list: &[String]) -> Vec<String> {
    list.iter().filter_map(|text| sanitize(text)).take(ENTRIES).collect()
}

/// A time that the schema accepts, in whole seconds; years 1 to 9999.
pub(crate) fn storable(time: Timestamp) -> Option<Timestamp> {
    let year_one = -62_135_596_800;
    Timestamp::from_second(time.as_second()).ok().filter(|time| time.as_second() >= year_one)
}

/// The modules that a person goes through: those of the flow except the terms, and those reported on.
fn modules<'a>(flow: &'a [String], progress: &'a BTreeMap<String, String>) -> Vec<&'a str> {
    let mut all: Vec<&str> = flow.iter().map(String::as_str).filter(|name| *name != "terms").collect();
    for name in progress.keys() {
        if name != "terms" && !all.contains(&name.as_str()) {
            all.push(name);
        }
    }
    all
}

/// How many modules are completed, such as `2/3`; none while no module is known.
pub(crate) fn summary(flow: &[String], progress: &BTreeMap<String, String>) -> Option<String> {
    let all = modules(flow, progress);
    let done =
        all.iter().filter(|name| progress.get(**name).is_some_and(|state| state == "completed")).count();
    (!all.is_empty()).then(|| format!("{done}/{}", all.len()))
}

/// Whether no module of a report has started.
pub(crate) fn is_untouched(report: &PortalReport) -> bool {
    report.progress.values().all(|state| state == "pending")
}

/// Whether at least one module is completed.
pub(crate) fn any_completed(progress: &BTreeMap<String, String>) -> bool {
    progress.iter().any(|(name, state)| name != "terms" && state == "completed")
}

/// Whether every module is completed, failed or skipped.
pub(crate) fn all_done(flow: &[String], progress: &BTreeMap<String, String>) -> bool {
    let all = modules(flow, progress);
    !all.is_empty()
        && all.iter().all(|name| {
            progress
                .get(*name)
                .is_some_and(|state| matches!(state.as_str(), "completed" | "failed" | "skipped"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ends_are_compared_byte_for_byte() {
        for (text, end) in
            [("verified", Outcome::Verified), ("rejected", Outcome::Rejected), ("expired", Outcome::Expired)]
        {
            assert_eq!(portal_status(text), PortalStatus::End(end));
            for near in [text.to_uppercase(), format!(" {text}"), format!("{text}\n"), format!("{text}\0")] {
                assert_eq!(portal_status(&near), PortalStatus::Unknown, "{near:?}");
            }
        }
    }

    #[test]
    fn other_statuses_are_read_in_any_case_and_with_dashes() {
        assert_eq!(portal_status("In-Progress"), PortalStatus::Open(OpenPhase::InProgress));
        assert_eq!(portal_status("NEEDS_MANUAL_REVIEW"), PortalStatus::Open(OpenPhase::InReview));
        assert_eq!(portal_status("junk"), PortalStatus::Unknown);
        assert_eq!(portal_status(&"x".repeat(1 << 20)), PortalStatus::Unknown);
    }

    #[test]
    fn what_status_cannot_hold_is_sanitized_and_cut() {
        assert_eq!(sanitize("a\u{1F600}b\r\n\tc"), Some("abc".to_owned()));
        assert_eq!(sanitize(" \u{7f} "), None);
        assert_eq!(sanitize(&"x".repeat(100)).map(|word| word.len()), Some(64));
        let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(sanitize_list(&many).len(), 16);
        assert_eq!(storable(Timestamp::MIN), None);
        assert_eq!(storable(Timestamp::MAX).map(jiff::Timestamp::subsec_nanosecond), Some(0));
    }

    #[test]
    fn progress_is_counted_over_the_flow_without_the_terms() {
        let flow = ["terms", "document", "liveness"].map(str::to_owned);
        let progress = |list: &[(&str, &str)]| {
            list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let some = progress(&[("document", "completed"), ("form_data", "pending")]);
        assert_eq!(summary(&flow, &some), Some("1/3".to_owned()));
        assert!(any_completed(&some) && !all_done(&flow, &some));
        let all = progress(&[("document", "completed"), ("liveness", "failed")]);
        assert!(all_done(&flow, &all));
        assert!(!all_done(&[], &BTreeMap::new()));
        assert_eq!(summary(&[], &BTreeMap::new()), None);
    }
}
