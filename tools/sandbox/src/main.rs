//! The program `okid-sandbox`: a simulated portal for people and for other processes.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use okid_sandbox::{ENDPOINTS, Person, Sandbox, Verdict};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Example:

  okid-sandbox --listen 127.0.0.1:8090 --api-key demo-key-1 &
  U=http://127.0.0.1:8090  K='X-SDK-Key: demo-key-1'
  curl -X POST $U/api/generate-verification -H \"$K\"
  ID=ver_...                                             # the verificationId in the response
  xdg-open \"$U/?verification_id=$ID\"                     # click through it in a browser, or:
  curl $U/sandbox/sessions/$ID/act -d '\"complete_all\"'
  curl $U/sandbox/sessions/$ID/act -d '{\"decide\":\"verified\"}'
  curl $U/api/get-verification-details/$ID -H \"$K\"
  curl $U/api/get-verification-image-front/$ID -H \"$K\" -o front.jpg

Inject a fault: the next create is processed, then the connection is cut before the response.

  curl $U/sandbox/faults \\
    -d '{\"call\":\"create\",\"times\":1,\"moment\":\"after\",\"action\":{\"cut\":\"before_headers\"}}'
";

/// A simulation of the okID portal with fault injection.
#[derive(Debug, Parser)]
#[command(version, after_help = format!("{EXAMPLES}\n{ENDPOINTS}"))]
struct Settings {
    /// Address to listen on; port 0 selects a free port. The first line on stdout shows the address.
    #[arg(long, env = "OKID_SANDBOX_LISTEN", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,

    /// An API key that the portal knows; repeatable or comma-separated.
    #[arg(
        long = "api-key",
        env = "OKID_SANDBOX_API_KEY",
        hide_env_values = true,
        value_delimiter = ',',
        required = true
    )]
    api_keys: Vec<String>,

    /// How long a session lasts, such as 90s, 30m or 1h.
    #[arg(long, env = "OKID_SANDBOX_EXPIRY", default_value = "1h", value_parser = duration)]
    expiry: Duration,

    /// The modules of a session, in order.
    #[arg(
        long,
        env = "OKID_SANDBOX_FLOW",
        value_delimiter = ',',
        default_value = "terms,document,liveness,form_data"
    )]
    flow: Vec<String>,

    /// Seconds of the sandbox's clock for each real second.
    #[arg(long, env = "OKID_SANDBOX_SPEED", default_value_t = 1.0, value_parser = speed)]
    speed: f64,

    /// Minimum duration of every request (real time), such as 200ms or 2s.
    #[arg(long, env = "OKID_SANDBOX_LATENCY", default_value = "0s", value_parser = duration)]
    latency: Duration,

    /// A scripted person for every session, who completes all modules, and the verdict of the reviewer.
    #[arg(long, env = "OKID_SANDBOX_PERSON")]
    person: Option<Outcome>,

    /// Time that the scripted person takes for each step, on the sandbox's clock.
    #[arg(long, env = "OKID_SANDBOX_PACE", default_value = "2s", value_parser = duration)]
    pace: Duration,

    /// Number of requests in the log at /sandbox/requests; 0 for none.
    #[arg(long, env = "OKID_SANDBOX_RECORDS", default_value_t = 10_000)]
    records: usize,

    /// Number of concurrent HTTP/2 streams on one connection.
    #[arg(long, env = "OKID_SANDBOX_MAX_STREAMS", default_value_t = 250)]
    max_streams: u32,

    /// Minimum size of an image in bytes; smaller ones are padded.
    #[arg(long, env = "OKID_SANDBOX_IMAGE_BYTES", default_value_t = 0)]
    image_bytes: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Outcome {
    Verified,
    Rejected,
    Expired,
    Review,
}

impl Outcome {
    fn verdict(self) -> Verdict {
        match self {
            Self::Verified => Verdict::Verified,
            Self::Rejected => Verdict::Rejected,
            Self::Expired => Verdict::Expired,
            Self::Review => Verdict::NeedsManualReview,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed =
        text.parse::<jiff::SignedDuration>().map_err(|_| "write a duration such as 200ms, 90s, 30m or 1h")?;
    Duration::try_from(parsed).map_err(|_| "it must not be negative".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().map_err(|_| "write a number such as 1 or 60")?;
    if speed.is_finite() && speed >= 0.0 { Ok(speed) } else { Err("it must be 0 or more".to_owned()) }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Settings::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its `Debug` form would show a backtrace.
            eprintln!("okid-sandbox: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;

    let sandbox = start(settings).await?;
    // The parent may wait for this line, or may have closed the pipe: both are fine.
    let _ = writeln!(std::io::stdout(), "okid-sandbox listens on {}", sandbox.url());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    sandbox.stop().await;
    Ok(())
}

async fn start(settings: Settings) -> Result<Sandbox> {
    let Settings {
        listen,
        api_keys,
        expiry,
        flow,
        speed,
        latency,
        person,
        pace,
        records,
        max_streams,
        image_bytes,
    } = settings;
    let mut builder = Sandbox::builder()
        .listen(listen)
        .expiry(expiry)
        .flow(flow)
        .speed(speed)
        .latency(latency)
        .records(records)
        .max_concurrent_streams(max_streams)
        .image_bytes(image_bytes);
    for key in api_keys {
        builder = builder.key(key);
    }
    if let Some(outcome) = person {
        builder = builder.person(Person::typical(pace, outcome.verdict()));
    }
    builder.try_start().await.with_context(|| format!("listen on {listen}"))
}
