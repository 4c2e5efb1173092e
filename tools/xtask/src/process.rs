//! CPU time and memory of a process, as Linux counts them. Reads /proc.

use std::fs::read_to_string;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Linux reports times of processes in hundredths of a second on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// User and system CPU time.
pub(crate) fn processor_time(id: u32) -> Result<Duration> {
    let stat = read(id, "stat")?;
    ticks(&stat).map(|ticks| TICK * ticks).context("read the CPU time of the process")
}

/// Fields 14 and 15 of `proc_pid_stat(5)`; the second, the program's name, may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory in MiB, shared pages included.
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) peak: f64,
}

/// Reads the memory of a process.
pub(crate) fn memory(id: u32) -> Result<Memory> {
    let status = read(id, "status")?;
    Ok(Memory { now: mebibytes(&status, "VmRSS")?, peak: mebibytes(&status, "VmHWM")? })
}

/// A field of `/proc/PID/status`, in MiB.
pub(crate) fn mebibytes(status: &str, field: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    Ok(kibibytes.with_context(|| format!("read {field} of the process"))? / 1024.0)
}

fn read(id: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{id}/{file}");
    read_to_string(&path).with_context(|| format!("read {path}; memory and CPU time need Linux"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_after_a_name_with_spaces_and_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 900 0 0 0 30 12 0 0 20 0 3 0 100";
        assert_eq!(ticks(stat), Some(42));
    }
}
