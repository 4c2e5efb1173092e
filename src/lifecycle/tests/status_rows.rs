//! The rows of what clients see. `tests/readers` has them evaluated by the code of the clients.

use serde_json::json;

use super::{
    status_fixtures::{GENERATION, Health, Kstatus, LOST, ROWS, expected, for_long, fresh, not_found, open},
    world::{Answer, poll_failed, refused, said},
};
use crate::{
    api::{ConditionStatus, ConditionType, ReadyWhen, Verification, VerificationStatus},
    portal::error::PortalError,
};

#[test]
fn each_row_shows_what_is_promised() {
    for row in ROWS {
        for (ready_when, (ready, other, ..)) in expected(row) {
            let world = (row.setup)(ready_when);
            assert_eq!(world.reason(ConditionType::Ready), Some(ready), "{} {ready_when:?}", row.state);
            let shown = |letter, type_| world.reason(type_).map(|reason| format!("{letter} {reason}"));
            let both = [shown("R", ConditionType::Reconciling), shown("S", ConditionType::Stalled)];
            let both: Vec<String> = both.into_iter().flatten().collect();
            assert_eq!(both.join(" "), other, "{} {ready_when:?}", row.state);
        }
    }
}

/// The rows as resources, with what clients must conclude from each.
fn resources() -> String {
    let unseen = resource(ReadyWhen::Verified, 1, false, &crate::lifecycle::fixtures::fresh());
    let mut lines = vec![line("1 not seen yet", Kstatus::InProgress, Health::Progressing, &unseen)];
    for row in ROWS {
        for (ready_when, (_, _, kstatus, health)) in expected(row) {
            let world = (row.setup)(ready_when);
            let resource = resource(ready_when, GENERATION, world.facts.suspend, &world.status);
            lines.push(line(row.state, kstatus, health, &resource));
        }
    }
    lines.concat()
}

fn line(row: &str, kstatus: Kstatus, health: Health, resource: &Verification) -> String {
    let (kstatus, health) = (format!("{kstatus:?}"), format!("{health:?}"));
    let line = json!({"row": row, "kstatus": kstatus, "argoCd": health, "resource": resource});
    format!("{line}\n")
}

fn resource(
    ready_when: ReadyWhen,
    generation: i64,
    suspend: bool,
    status: &VerificationStatus,
) -> Verification {
    let mut resource = crate::lifecycle::fixtures::verification("row");
    resource.metadata.generation = Some(generation);
    resource.spec.ready_when = ready_when;
    resource.spec.suspend = suspend;
    resource.status = Some(status.clone());
    resource
}

#[test]
fn the_file_with_the_rows_for_clients_is_up_to_date() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/rows.jsonl");
    let rows = resources();
    if std::env::var_os("OKID_WRITE_ROWS").is_some() {
        std::fs::write(file, &rows).unwrap();
    }
    let written = std::fs::read_to_string(file).unwrap();
    assert!(rows == written, "write it again: OKID_WRITE_ROWS=1 cargo test --lib up_to_date");
}

#[test]
fn verified_is_unknown_until_a_verdict_and_finished_is_never_unknown() {
    for row in ROWS {
        let world = (row.setup)(ReadyWhen::Verified);
        let over = world.status.outcome.is_some();
        let (finished, _) = world.shown(ConditionType::Finished).unwrap();
        let (verified, _) = world.shown(ConditionType::Verified).unwrap();
        assert_eq!(finished == ConditionStatus::True, over, "{}", row.state);
        assert_eq!(verified == ConditionStatus::Unknown, !over, "{}", row.state);
    }
}

#[test]
fn a_key_that_is_refused_beside_a_link_is_seen_in_credentials_ready() {
    // Row 16 with `readyWhen: SessionCreated`: Current, with CredentialsReady False.
    let world = for_long(open(ReadyWhen::SessionCreated), &poll_failed(PortalError::AccessDenied));
    let expected = (ConditionStatus::False, "AccessDenied");
    assert_eq!(world.shown(ConditionType::CredentialsReady), Some(expected));
}

#[test]
fn an_unknown_outcome_shows_in_session_created() {
    let mut world = fresh(ReadyWhen::Verified);
    world.reconcile(refused(LOST));
    let expected = (ConditionStatus::Unknown, "OutcomeUnknown");
    assert_eq!(world.shown(ConditionType::SessionCreated), Some(expected));
}

#[test]
fn stalled_is_final_only_as_rejected_expired_or_past_the_deadline() {
    // The promise of README.md.
    for row in ROWS {
        for (ready_when, _) in expected(row) {
            let world = (row.setup)(ready_when);
            let Some(reason) = world.reason(ConditionType::Stalled) else { continue };
            let is_final = ["Rejected", "Expired", "DeadlineExceeded"].contains(&reason);
            assert_eq!(world.status.settled, is_final, "{} {ready_when:?}", row.state);
        }
    }
}

#[test]
fn a_session_that_is_not_found_keeps_its_phase_and_clears_automatically() {
    let mut world = not_found(open(ReadyWhen::Verified));
    assert_eq!(world.status.phase, Some(crate::api::Phase::AwaitingUser));
    world.reconcile_when_due(said("generated", &[]));
    assert_eq!(world.reason(ConditionType::Stalled), None);
    assert_eq!(world.reason(ConditionType::Reconciling), Some("AwaitingUser"));
}

#[test]
fn suspending_hides_a_stall_and_resuming_shows_it_again() {
    let mut world = not_found(open(ReadyWhen::Verified));
    world.facts.suspend = true;
    world.reconcile(Answer::Uncalled);
    assert_eq!(world.reason(ConditionType::Stalled), None);
    world.facts.suspend = false;
    world.reconcile_when_due(poll_failed(PortalError::NotFound));
    assert_eq!(world.reason(ConditionType::Stalled), Some("SessionNotFound"));
}
