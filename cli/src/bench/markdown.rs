//! The report as a Markdown table.

use std::fmt::Write;

use super::report::{Report, Summary};
use super::run::Spread;
use crate::commands::table::count;

/// The content of `report.md`.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    let machine = &report.machine;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{}, {} cores, {:.0} GiB, Linux {}, load {}; Tidemill {}. {} turns of {} s; median [least-greatest].\n",
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.load,
        report.version,
        report.repeats,
        report.window_seconds,
    );
    text.push_str(
        "| what | GiB/s | records/s | CPU s/GiB, all ends | of the bare transport | peak RSS MiB |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for summary in &report.cells {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.0} |",
            summary.name,
            spread(&summary.gib_per_second, 2),
            count(summary.records_per_second.median as u64),
            spread(&summary.cpu_seconds_per_gib, 2),
            percent(summary.of_limit.as_ref()),
            summary.peak_resident_mib,
        );
    }
    let rotating: Vec<&Summary> = report.cells.iter().filter(|summary| summary.rotations > 0).collect();
    if !rotating.is_empty() {
        text.push_str(
            "\n| under rotation | of the same without | rotations | moves | lost connections | bytes sent again | last byte under the old certificate, ms | p99 frame delay, us: usual, worst |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
    }
    for summary in rotating {
        let incidents = summary.incidents;
        let (usual, worst) = incidents.delay_p99_us;
        let delays = if worst == 0 { "-".to_owned() } else { format!("{usual}, {worst}") };
        let old = if incidents.last_old_byte_ms == 0 { "-".to_owned() } else { incidents.last_old_byte_ms.to_string() };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {old} | {delays} |",
            summary.name,
            percent(summary.of_unrotated.as_ref()),
            summary.rotations,
            incidents.migrations,
            incidents.reconnects,
            count(incidents.retransmitted_bytes),
        );
    }
    text
}

fn spread(Spread { median, least, greatest }: &Spread, decimals: usize) -> String {
    format!("{median:.decimals$} [{least:.decimals$}-{greatest:.decimals$}]")
}

fn percent(ratio: Option<&Spread>) -> String {
    let hundred = |figure: f64| (figure * 100.0).round();
    ratio.map_or_else(
        || "-".to_owned(),
        |ratio| format!("{} % [{}-{}]", hundred(ratio.median), hundred(ratio.least), hundred(ratio.greatest)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn every_cell_has_its_line_and_rotations_have_theirs() {
        let text = render(&report());
        assert!(text.contains("| raw TLS | 3.00 [2.00-4.00] | 3,000,000 | 1.00 [1.00-1.00] | - | 0 |"), "{text}");
        assert!(
            text.contains("| plane TLS, 1 KiB | 2.80 [1.80-3.80] | 2,800,000 | 1.00 [1.00-1.00] | 93 % [90-95] | 0 |"),
            "{text}"
        );
        let rotating =
            "| plane TLS, 1 KiB, a rotation every 1 s, renew | 95 % [90-100] | 2 | 2 | 0 | 0 | 80 | 500, 900 |";
        assert!(text.contains(rotating), "{text}");
    }
}
