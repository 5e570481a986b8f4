//! What this machine has, for those who look at the cluster.

use proto::v1::Hardware;

const MEMINFO: &str = "/proc/meminfo";

/// Figures of the machine; what the system does not tell is 0.
pub(crate) fn read() -> Hardware {
    let cpu_cores =
        std::thread::available_parallelism().map_or(0, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
    let meminfo = std::fs::read_to_string(MEMINFO).unwrap_or_default();
    Hardware {
        cpu_cores,
        physical_memory_bytes: bytes_of(&meminfo, "MemTotal:"),
        free_memory_bytes: bytes_of(&meminfo, "MemAvailable:"),
    }
}

/// `MemTotal:       24683904 kB`
fn bytes_of(meminfo: &str, field: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_in_kilobytes() {
        let meminfo = "MemTotal:       24683904 kB\nMemFree:         100 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(bytes_of(meminfo, "MemTotal:"), 24_683_904 * 1024);
        assert_eq!(bytes_of(meminfo, "MemAvailable:"), 2 << 20);
        assert_eq!(bytes_of("", "MemTotal:"), 0);
    }
}
