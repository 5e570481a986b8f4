//! What in a report is not as it must be, in words. A demo without findings has passed.

use std::time::Duration;

use tls_common::ReloadOptions;

use super::report::{EndpointReport, JobReport, millis};
use super::rotation::Rotations;
use crate::probe::Kind;

impl EndpointReport {
    /// What is not as it must be after `rotations` at this pace.
    pub(super) fn findings(&self, rotations: u64, rotate_every: Duration, findings: &mut Vec<String>) {
        let name = self.endpoint;
        if self.processes == 0 {
            findings.push(format!("{name}: no process reports it"));
            return;
        }
        let mut none = |number: u64, what: &str| {
            if number > 0 {
                findings.push(format!("{name}: {number} {what}"));
            }
        };
        none(self.failed_handshakes, "failed handshakes");
        none(self.refused_connects, "refused connects");
        none(self.cut, "connections cut because they did not finish in time");
        none(self.went_back, "times an older certificate was served after a newer one");
        none(self.unknown_certificates, "certificates that were never on disk");
        let mut soon = |ms: u64, what: &str| {
            if ms > millis(STALE_AFTER) {
                findings.push(format!("{name}: {what} {ms} ms after its replacement"));
            }
        };
        soon(self.slowest_served_ms, "a certificate was still served");
        soon(self.last_old_byte_ms, "a byte was sent under a certificate");
        if self.probes == 0 {
            findings.push(format!("{name}: never probed"));
        }
        // Faster than that, a process may rightly take several replacements for one.
        if rotate_every < 2 * ReloadOptions::default().quiet_period {
            return;
        }
        let replaced = rotations + 1;
        if self.generation * 10 < replaced * 8 {
            findings.push(format!("{name}: generation {} of {replaced} that were on disk", self.generation));
        }
        if name == Kind::Data.name() && rotations >= 2 && self.renewed == 0 {
            findings.push(format!("{name}: no connection was renewed"));
        }
    }
}

impl JobReport {
    pub(super) fn findings(&self, findings: &mut Vec<String>) {
        if self.state != "FINISHED" {
            findings.push(format!("the job is {}: {}", self.state, self.cause.as_deref().unwrap_or("no cause given")));
        }
        if !self.rows.exact {
            findings.push(format!("{} rows lost, {} doubled or wrong", self.rows.missing, self.rows.extra));
        }
        if self.rows_in != self.rows.rows_in {
            findings.push(format!("the source delivered {} of {} rows", self.rows_in, self.rows.rows_in));
        }
        if let Some(late) = self.late_rows.filter(|late| *late > 0) {
            findings.push(format!("{late} rows came too late for their window"));
        }
    }
}

impl Rotations {
    /// Nine tenths of those due must have been done, and all but one of few: the last may fall behind the job's end.
    pub(super) fn findings(self, due: u64, findings: &mut Vec<String>) {
        let total = self.total();
        if total < (due * 9).div_ceil(10).min(due.saturating_sub(1)).max(1) {
            findings.push(format!("only {total} rotations where {due} were due: the machine is too busy"));
        }
        if total >= ENOUGH_FOR_ALL_WAYS && [self.in_place, self.renamed, self.swapped].contains(&0) {
            findings.push("not all ways of replacing files had their turn".to_owned());
        }
    }
}

/// A certificate that is served, or written under, for longer than this after its replacement is stale. It takes the
/// quiet period (0.3 s, at most 3 s) and some milliseconds on an idle machine; a busy one must not fail by luck. Half of
/// the poll interval: were events missed and polls left to find the changes, a minute of rotations would not pass.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(5);

/// Rotations after which each way has had its turn, whatever their order.
const ENOUGH_FOR_ALL_WAYS: u64 = 12;

/// Rotations that a job of this duration should see; at least one.
pub(super) fn due(job_ms: i64, rotate_every: Duration) -> u64 {
    u64::try_from(job_ms).unwrap_or(0).checked_div(millis(rotate_every)).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use engine::batch::Comparison;

    use super::super::report::tests::job;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn endpoint() -> EndpointReport {
        EndpointReport {
            endpoint: "data",
            processes: 2,
            generation: 61,
            handshakes: 100,
            failed_handshakes: 0,
            refused_connects: 0,
            renewed: 60,
            cut: 0,
            probes: 100,
            went_back: 0,
            unknown_certificates: 0,
            slowest_served_ms: 400,
            last_old_byte_ms: 350,
            listener_rebinds: 0,
        }
    }

    fn findings(endpoint: &EndpointReport, rotate_every: Duration) -> Vec<String> {
        let mut findings = Vec::new();
        endpoint.findings(60, rotate_every, &mut findings);
        findings
    }

    #[test]
    fn a_good_endpoint_has_no_findings() {
        assert_eq!(findings(&endpoint(), SECOND), Vec::<String>::new());
        // Four fifths of the generations, and on another endpoint than `data` nothing to renew.
        let other = EndpointReport { endpoint: "blob", generation: 49, renewed: 0, ..endpoint() };
        assert_eq!(findings(&other, SECOND), Vec::<String>::new());
    }

    #[test]
    fn each_fault_of_an_endpoint_is_a_finding() {
        let faults = [
            EndpointReport { processes: 0, ..endpoint() },
            EndpointReport { failed_handshakes: 1, ..endpoint() },
            EndpointReport { refused_connects: 1, ..endpoint() },
            EndpointReport { cut: 1, ..endpoint() },
            EndpointReport { went_back: 1, ..endpoint() },
            EndpointReport { unknown_certificates: 1, ..endpoint() },
            EndpointReport { slowest_served_ms: 5_001, ..endpoint() },
            EndpointReport { last_old_byte_ms: 5_001, ..endpoint() },
            EndpointReport { probes: 0, ..endpoint() },
            EndpointReport { generation: 48, ..endpoint() },
            EndpointReport { renewed: 0, ..endpoint() },
        ];
        for fault in faults {
            assert_eq!(findings(&fault, SECOND).len(), 1, "{fault:?}");
        }
    }

    #[test]
    fn replacements_within_the_quiet_period_may_be_taken_for_one() {
        let slow = EndpointReport { generation: 3, renewed: 0, ..endpoint() };
        assert_eq!(findings(&slow, SECOND / 2), Vec::<String>::new());
    }

    #[test]
    fn each_fault_of_the_job_is_a_finding() {
        let lost = Comparison { missing: 1, exact: false, ..job().rows };
        let faults = [
            JobReport { state: "FAILED".to_owned(), ..job() },
            JobReport { rows: lost, ..job() },
            JobReport { rows_in: 9, ..job() },
            JobReport { late_rows: Some(1), ..job() },
        ];
        for fault in faults {
            let mut findings = Vec::new();
            fault.findings(&mut findings);
            assert_eq!(findings.len(), 1, "{fault:?}");
        }
    }

    #[test]
    fn nine_tenths_of_the_rotations_due_are_required_in_all_ways() {
        let faults = |in_place, renamed, swapped, due| {
            let mut findings = Vec::new();
            Rotations { in_place, renamed, swapped }.findings(due, &mut findings);
            findings.len()
        };
        assert_eq!([faults(15, 29, 15, 66), faults(15, 30, 15, 66)], [1, 0]);
        // Of a few, the last may come too late.
        assert_eq!([faults(0, 0, 0, 1), faults(1, 0, 0, 1), faults(1, 0, 0, 2), faults(1, 0, 0, 3)], [1, 0, 0, 1]);
        assert_eq!([faults(6, 6, 0, 12), faults(11, 0, 0, 11), faults(3, 6, 3, 12)], [1, 0, 0]);
    }
}
