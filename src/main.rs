//! The program `okid-operator`. May depend on the library only.

use std::{
    io::{ErrorKind, Write as _},
    pin::pin,
    process::ExitCode,
};

use clap::CommandFactory;
use okid_operator::{
    api, operator,
    settings::{CheckSettings, Command, CommandLine, ReleaseSettings, Settings},
    telemetry::{self, LogControl, LogFilter},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let line = match CommandLine::read() {
        Ok(line) => line,
        Err(status) => return status,
    };
    let done = match line.command {
        Command::Run(settings) => run(&settings),
        Command::Crd => {
            api::definition_yaml().map_err(BoxError::from).and_then(|yaml| print(yaml.as_bytes()))
        }
        Command::Check(settings) => check(&settings),
        Command::ReleaseFinalizers(settings) => release_finalizers(&settings),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "okid-operator", &mut script);
            print(&script)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("okid-operator: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

type BoxError = Box<dyn std::error::Error>;

/// Prints to standard output. A reader that stops early, such as `head`, is no error.
fn print(text: &[u8]) -> Result<(), BoxError> {
    let mut out = std::io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn check(settings: &CheckSettings) -> Result<(), BoxError> {
    // If standard output is closed, the exit code still tells.
    let report = |line: &str| drop(writeln!(std::io::stdout(), "{line}"));
    Ok(runtime()?.block_on(operator::check(settings, report))?)
}

fn release_finalizers(settings: &ReleaseSettings) -> Result<(), BoxError> {
    let _log = telemetry::start(settings.log_format, &LogFilter::default());
    Ok(runtime()?.block_on(operator::release_finalizers(settings))?)
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn run(settings: &Settings) -> Result<(), BoxError> {
    let log = telemetry::start(settings.log_format, &settings.log_filter);
    let runtime = runtime()?;
    let done = runtime.block_on(until_signalled(settings, log));
    // A DNS lookup may still block one of its threads.
    runtime.shutdown_background();
    if done.as_ref().is_err_and(|error| is_about_settings(error.as_ref())) && !settings.variables.is_empty() {
        eprintln!("okid-operator: settings taken from the environment: {}", settings.variables.join(", "));
    }
    done
}

fn is_about_settings(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(operator::RunOperator::Setup(_)))
}

/// Runs the operator until SIGTERM or Ctrl-C. A second signal ends it without waiting for work in flight.
async fn until_signalled(settings: &Settings, log: LogControl) -> Result<(), BoxError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let mut running = pin!(operator::run(settings, log, shutdown.clone()));
    loop {
        tokio::select! {
            done = &mut running => return Ok(done?),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if shutdown.is_cancelled() {
            return Err("received a second termination signal; in-flight work was not awaited and will be recovered on \
                        restart"
                .into());
        }
        shutdown.cancel();
    }
}

/// An error and its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Errors of some libraries already include their causes.
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}
