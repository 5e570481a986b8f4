//! What a process has used of the machine, from `/proc`, for those who compare costs.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::v1::ProcessUsage;

/// Of `/proc/*/stat`, ticks a second: what Linux calls `USER_HZ`, the same on all machines this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// This process' usage so far; what the system does not tell is 0.
pub fn own() -> ProcessUsage {
    of(Path::new("/proc/self"))
}

/// The usage so far of another process of this machine; all 0 if there is none of this id.
pub fn of_pid(pid: u32) -> ProcessUsage {
    of(&Path::new("/proc").join(pid.to_string()))
}

fn of(directory: &Path) -> ProcessUsage {
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let status = read("status");
    ProcessUsage {
        time_ms: i64::try_from(unix_ms).unwrap_or(i64::MAX),
        cpu_ms: cpu_ms(&read("stat")).unwrap_or_default(),
        resident_bytes: bytes_of(&status, "VmRSS:"),
        peak_resident_bytes: bytes_of(&status, "VmHWM:"),
    }
}

/// User and system time of `/proc/<pid>/stat`: the 14th and 15th field. The 2nd, a name in brackets, may contain anything.
fn cpu_ms(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    let ticks = times.next()??.saturating_add(times.next()??);
    Some(ticks.saturating_mul(1000 / TICKS_PER_SECOND))
}

/// A line like `VmRSS:       1234 kB` of a file of such lines; 0 if it is not there.
pub(crate) fn bytes_of(lines: &str, field: &str) -> u64 {
    let line = lines.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn lines_are_in_kilobytes() {
        let meminfo = "MemTotal:       24683904 kB\nMemFree:         100 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(bytes_of(meminfo, "MemTotal:"), 24_683_904 * 1024);
        assert_eq!(bytes_of(meminfo, "MemAvailable:"), 2 << 20);
        assert_eq!(bytes_of("", "MemTotal:"), 0);
    }

    #[test]
    fn the_name_of_a_process_may_look_like_fields() {
        let stat = "7 (a) b 1 2) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 4 0 12 3 4";
        assert_eq!(cpu_ms(stat), Some(1_750));
        assert_eq!(cpu_ms(""), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = own();
        assert!(usage.resident_bytes > 0 && usage.peak_resident_bytes >= usage.resident_bytes, "{usage:?}");
        assert!(of_pid(std::process::id()).resident_bytes > 0);
        let nobody = of_pid(0);
        assert_eq!(nobody, ProcessUsage { time_ms: nobody.time_ms, ..ProcessUsage::default() });
    }
}
