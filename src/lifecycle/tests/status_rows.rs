//! The rows of what clients see, evaluated by the clients' own rules.

use super::{
    status_fixtures::{GENERATION, LOST, ROWS, expected, for_long, fresh, not_found, open},
    waiters::{
        Health::Progressing,
        Kstatus::{self, Current, InProgress, Terminating},
        Seen,
    },
    world::{Answer, World, poll_failed, refused, said},
};
use crate::{
    api::{ConditionStatus, ConditionType, ReadyWhen},
    portal::error::PortalError,
};

fn seen(world: &World) -> Seen {
    Seen::of(GENERATION, world.facts.suspend, &world.status)
}

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

#[test]
fn kstatus_flux_and_helm_read_each_row_as_promised() {
    for row in ROWS {
        for (ready_when, (_, _, kstatus, _)) in expected(row) {
            let seen = seen(&(row.setup)(ready_when));
            assert_eq!(seen.kstatus(), kstatus, "{} {ready_when:?}", row.state);
            assert_eq!(seen.flux_faults(), Vec::<&str>::new(), "{} {ready_when:?}", row.state);
        }
    }
}

#[test]
fn argo_cd_reads_each_row_as_promised() {
    for row in ROWS {
        for (ready_when, (.., health)) in expected(row) {
            let seen = seen(&(row.setup)(ready_when));
            assert_eq!(seen.argo_cd(), health, "{} {ready_when:?}", row.state);
        }
    }
}

#[test]
fn kubectl_waits_for_ready_verified_and_finished() {
    for row in ROWS {
        for (ready_when, (_, _, kstatus, _)) in expected(row) {
            let world = (row.setup)(ready_when);
            let seen = seen(&world);
            let over =
                ["11", "12", "13", "14", "15", "17a"].iter().any(|number| row.state.starts_with(number));
            let is_verified = ["11", "12", "13"].iter().any(|number| row.state.starts_with(number));
            assert_eq!(seen.kubectl_waits_for("Ready"), kstatus == Current, "{}", row.state);
            assert_eq!(seen.kubectl_waits_for("finished"), over, "{}", row.state);
            assert_eq!(seen.kubectl_waits_for("Verified"), is_verified, "{}", row.state);
            assert_eq!(seen.kubectl_waits_for("Verified=False"), over && !is_verified, "{}", row.state);
            assert_eq!(seen.kubectl_waits_for("Stalled"), kstatus == Kstatus::Failed, "{}", row.state);
        }
    }
}

#[test]
fn argo_workflows_reads_the_phase_alone() {
    for row in ROWS {
        for (ready_when, _) in expected(row) {
            let seen = seen(&(row.setup)(ready_when));
            let failed = ["14", "15", "17a"].iter().any(|number| row.state.starts_with(number));
            let success = seen.argo_workflows("status.phase == Verified");
            let failure = seen.argo_workflows("status.phase in (Rejected, Expired, Failed)");
            // Not before its evidence is stored, or has failed.
            let verified = ["12", "13"].iter().any(|number| row.state.starts_with(number));
            assert_eq!((success, failure), (verified, failed), "{}", row.state);
        }
    }
}

#[test]
fn a_resource_that_was_never_reconciled_satisfies_no_client() {
    // Row 1: the default in the definition.
    let seen = Seen::of(1, false, &crate::lifecycle::fixtures::fresh());
    assert_eq!((seen.kstatus(), seen.argo_cd()), (InProgress, Progressing));
    assert!(!seen.kubectl_waits_for("Ready") && !seen.argo_workflows("status.phase == Verified"));
    assert_eq!(seen.flux_faults(), ["Ready is missing"], "which Flux reports whatever one does");
}

#[test]
fn an_edit_that_is_not_observed_yet_is_in_progress() {
    // Row 19.
    for row in ROWS {
        for (ready_when, _) in expected(row) {
            let seen = seen(&(row.setup)(ready_when)).edited();
            assert_eq!((seen.kstatus(), seen.argo_cd()), (InProgress, Progressing), "{}", row.state);
            assert!(!seen.kubectl_waits_for("Ready"), "{}", row.state);
        }
    }
}

#[test]
fn a_resource_that_is_being_deleted_is_terminating() {
    // Row 20.
    for row in ROWS {
        for (ready_when, _) in expected(row) {
            let seen = seen(&(row.setup)(ready_when)).deleted();
            assert_eq!((seen.kstatus(), seen.argo_cd()), (Terminating, Progressing), "{}", row.state);
        }
    }
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
    assert_eq!(seen(&world).kstatus(), InProgress);
}

#[test]
fn suspending_hides_a_stall_and_resuming_shows_it_again() {
    let mut world = not_found(open(ReadyWhen::Verified));
    world.facts.suspend = true;
    world.reconcile(Answer::Uncalled);
    assert_eq!(seen(&world).kstatus(), InProgress);
    world.facts.suspend = false;
    world.reconcile_when_due(poll_failed(PortalError::NotFound));
    assert_eq!(seen(&world).kstatus(), Kstatus::Failed);
}
