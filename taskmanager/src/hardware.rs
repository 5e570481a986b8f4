//! What this machine has, for those who look at the cluster.

use proto::v1::Hardware;

use crate::usage::bytes_of;

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
