//! The standard metrics of a process, as Prometheus' own client libraries name them, read from `/proc` at each scrape.

use std::fmt;

use procfs::{
    ProcResult, WithCurrentSystemInfo as _,
    process::{LimitValue, Process},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Reads the metrics of this process. Where there is no `/proc`, there are none.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// What `/proc` says.
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    started: f64,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Usage {
    #[expect(clippy::cast_precision_loss, reason = "ticks of a process stay far below 2^52")]
    fn read() -> ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks_per_second = procfs::ticks_per_second() as f64;
        let max_fds = process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(limit) => Some(limit),
            LimitValue::Unlimited => None,
        });
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks_per_second,
            resident_bytes: stat.rss_bytes().get(),
            virtual_bytes: stat.vsize,
            started: procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks_per_second,
            open_fds: process.fd_count().ok().and_then(|count| u64::try_from(count).ok()),
            max_fds,
        })
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(usage) = Usage::read() else { return Ok(()) };
        let mut write = |name: &str, help: &str, unit: Option<Unit>, metric: &dyn EncodeMetric| {
            let descriptor = encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?;
            metric.encode(descriptor)
        };
        let bytes = |count| ConstGauge::new(count);
        let cpu = ConstCounter::new(usage.cpu_seconds);
        write("process_cpu", "User and system CPU time.", Some(Unit::Seconds), &cpu)?;
        write(
            "process_resident_memory",
            "Resident memory.",
            Some(Unit::Bytes),
            &bytes(usage.resident_bytes),
        )?;
        write("process_virtual_memory", "Virtual memory.", Some(Unit::Bytes), &bytes(usage.virtual_bytes))?;
        let started = ConstGauge::new(usage.started);
        write(
            "process_start_time",
            "Unix time at which the process started.",
            Some(Unit::Seconds),
            &started,
        )?;
        if let Some(open) = usage.open_fds {
            write("process_open_fds", "Open file descriptors.", None, &ConstGauge::new(open))?;
        }
        if let Some(most) = usage.max_fds {
            write(
                "process_max_fds",
                "Maximum number of open file descriptors.",
                None,
                &ConstGauge::new(most),
            )?;
        }
        Ok(())
    }
}
