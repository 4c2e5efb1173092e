//! The control plane starts, serves, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use control_plane::{ControlPlane, Programs, Progress, User};

static PROGRAMS: LazyLock<Programs> = LazyLock::new(|| Programs::find_or_build(Progress::detect()).unwrap());

#[test]
fn two_control_planes_serve_at_once_and_leave_nothing() {
    let guest = User { token: "guest-token".into(), name: "guest".into(), groups: vec!["visitors".into()] };
    let control_plane = ControlPlane::start(&PROGRAMS, std::slice::from_ref(&guest)).unwrap();
    let another = ControlPlane::start(&PROGRAMS, &[]).unwrap();
    assert_ne!(control_plane.url(), another.url());

    assert_eq!(output_of(control_plane.kubectl().args(["get", "--raw", "/readyz"])), "ok");
    let program = output_of(Command::new(&PROGRAMS.kube_apiserver).arg("--version"));
    let version = program.trim().strip_prefix("Kubernetes ").unwrap();
    assert!(
        output_of(control_plane.kubectl().arg("version")).contains(&format!("Server Version: {version}"))
    );
    assert!(
        output_of(control_plane.kubectl().args(["get", "--raw", "/metrics"]))
            .contains("apiserver_request_total")
    );

    output_of(control_plane.kubectl().args(["create", "configmap", "only-here"]));
    assert!(
        !output_of(another.kubectl().args(["get", "configmaps", "--output", "name"])).contains("only-here")
    );

    let guests_file = control_plane.folder().join("guest");
    std::fs::write(&guests_file, control_plane.kubeconfig_of(&guest)).unwrap();
    let guests_kubectl = || {
        let mut kubectl = control_plane.kubectl();
        kubectl.env("KUBECONFIG", &guests_file);
        kubectl
    };
    assert!(output_of(guests_kubectl().args(["auth", "whoami"])).contains("visitors"));
    let refused = guests_kubectl().args(["get", "configmaps"]).output().unwrap();
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.contains("User \"guest\" cannot list resource \"configmaps\""), "{refused}");

    let folders: Vec<PathBuf> = [&control_plane, &another].map(|one| one.folder().to_owned()).into();
    control_plane.stop().unwrap();
    drop(another);
    assert!(!folders.iter().any(|folder| folder.exists()));
}

/// Runs a command, which must succeed, and returns its output.
fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
