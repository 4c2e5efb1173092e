//! One process of the operator. Touches processes.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use control_plane::process::{Child, Command, Lifeline, Signal};
use reqwest::{Client, Response};
use serde_json::Value;

use super::{holds, until};

/// Options of an operator, beyond those that every operator of a test has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launch {
    pub(super) flags: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) portals: Option<Vec<String>>,
}

impl Launch {
    /// No further options.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds flags.
    pub(crate) fn flags(mut self, flags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    pub(crate) fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Crashes the process at this failpoint.
    pub(crate) fn crash_at(self, point: &str) -> Self {
        self.env("OKID_FAILPOINT_ABORT", point)
    }

    /// Holds the first create at this failpoint until the file is removed.
    pub(crate) fn hold_at(self, point: &str, file: &Path) -> Self {
        let file = file.to_str().expect("a path in UTF-8");
        self.env("OKID_FAILPOINT_HOLD", point).env("OKID_FAILPOINT_HOLD_FILE", file)
    }

    /// Allows these portals instead of those of the world.
    pub(crate) fn allow(mut self, portals: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.portals = Some(portals.into_iter().map(Into::into).collect());
        self
    }
}

/// A running operator. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Operator {
    child: Child,
    http: Client,
}

impl Operator {
    /// The program, without arguments.
    pub(crate) fn program(kubeconfig: &Path) -> Command {
        Command::new(env!("CARGO_BIN_EXE_okid-operator")).env("KUBECONFIG", kubeconfig)
    }

    /// Runs an operator that ends before what `needs` keeps alive is dropped.
    pub(crate) fn start(command: Command, log: PathBuf, needs: Lifeline) -> Self {
        let child = command.needs(needs).start(log).expect("start the operator");
        let http = Client::builder().no_proxy().build().expect("make a client");
        Self { child, http }
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.child.log()
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        self.child.log_tail()
    }

    /// The lines of its log that are JSON.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a line of the log, and returns it.
    pub(crate) async fn until_logged(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let logged = async || {
            let ended = self.child.try_wait().expect("check whether the operator has exited");
            let line = self.log_lines().into_iter().find(&holds);
            let goes_on = line.is_some() || ended.is_none();
            assert!(goes_on, "the operator exited before it logged {what}:\n{}", self.log_tail());
            line.ok_or(())
        };
        until(logged, |()| format!("the operator did not log {what}:\n{}", self.log_tail())).await
    }

    /// Waits until it watches.
    pub(crate) async fn until_watching(&self) {
        self.until_logged("that it watches", |line| line["message"] == "watching verifications").await;
    }

    /// The admin server's response for a path.
    pub(crate) async fn ask(&self, path: &str) -> Response {
        self.http.get(self.url(path).await).send().await.expect("call the admin server")
    }

    /// Puts a text at a path of the admin server.
    pub(crate) async fn put(&self, path: &str, text: &str) -> Response {
        let request = self.http.put(self.url(path).await).body(text.to_owned());
        request.send().await.expect("call the admin server")
    }

    async fn url(&self, path: &str) -> String {
        let line = self.until_logged("its address", |line| line["address"].is_string()).await;
        format!("http://{}{path}", line["address"].as_str().expect("an address"))
    }

    /// Its metrics as text.
    pub(crate) async fn metrics(&self) -> String {
        self.ask("/metrics").await.text().await.expect("read the metrics")
    }

    /// The value of one metric, named with its labels as in the text; without labels, the sum of all its samples; 0 if
    /// there are no samples.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let is_named = |sample: &str| {
            sample.strip_prefix(name).is_some_and(|labels| labels.is_empty() || labels.starts_with('{'))
        };
        let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let values = samples.filter(|(sample, _)| is_named(sample));
        // The sum of nothing would be -0.
        values.fold(0.0, |sum, (_, value)| sum + value.parse::<f64>().expect("a number"))
    }

    /// Waits until a metric has a value.
    pub(crate) async fn until_metric(&self, name: &str, holds: impl Fn(f64) -> bool) {
        let measured = async || {
            let value = self.metric(name).await;
            if holds(value) { Ok(()) } else { Err(value) }
        };
        until(measured, |value| format!("{name} stays {value}:\n{}", self.log_tail())).await;
    }

    /// Whether `/readyz` succeeds.
    pub(crate) async fn ready(&self) -> bool {
        self.ask("/readyz").await.status().is_success()
    }

    /// Waits until `/readyz` succeeds.
    pub(crate) async fn until_ready(&self) {
        let report = |()| format!("the operator is not ready:\n{}", self.log_tail());
        until(async || holds(self.ready().await), report).await;
    }

    /// Waits until `/readyz` fails, and returns its body.
    pub(crate) async fn until_unready(&self) -> String {
        let unready = async || {
            let response = self.ask("/readyz").await;
            let is_unready = !response.status().is_success();
            is_unready.then_some(response).ok_or(())
        };
        let response = until(unready, |()| format!("the operator stays ready:\n{}", self.log_tail())).await;
        response.text().await.expect("read the response")
    }

    /// Its peak memory in bytes, as Linux reports it; 0 on other systems.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        peak.map_or(0, |kilobytes| kilobytes.trim().parse::<u64>().expect("a number") * 1024)
    }

    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        self.child.try_wait().expect("check whether the operator has exited").is_none()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.child.signal(signal).expect("signal the operator");
    }

    /// Waits until it exits.
    pub(crate) async fn wait(&self) -> ExitStatus {
        let exited = async || self.child.try_wait().expect("check whether the operator has exited").ok_or(());
        until(exited, |()| format!("the operator does not exit:\n{}", self.log_tail())).await
    }

    /// Sends SIGTERM and waits until it exits.
    pub(crate) async fn stop(&self) -> ExitStatus {
        self.signal(Signal::Terminate);
        self.wait().await
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&self) {
        self.child.kill().expect("kill the operator");
    }
}
