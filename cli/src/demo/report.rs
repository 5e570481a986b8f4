//! What the demo says at its end, for people and as JSON, and whether it passed.

use std::fmt;
use std::time::Duration;

use engine::batch::Comparison;
use rest_gateway::dto::ProcessTls;
use serde::Serialize;
use tls_common::{EndpointStatus, ReloadOptions};

use super::probe::{Kind, Probed};
use super::rotation::Rotations;
use crate::commands::table::{Table, count, duration};
use crate::commands::tls_status::label;

/// Everything measured. Durations are milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) passed: bool,
    /// What is not as it must be, in words.
    pub(super) findings: Vec<String>,
    pub(super) rotate_every_ms: u64,
    pub(super) job: JobReport,
    pub(super) rotations: Rotations,
    pub(super) processes_started: usize,
    /// Processes that reported their TLS at the end.
    pub(super) processes_reported: usize,
    pub(super) endpoints: Vec<EndpointReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct JobReport {
    pub(super) state: String,
    /// Why it failed, if it did.
    pub(super) cause: Option<String>,
    pub(super) duration_ms: i64,
    /// Rows that the job's source has delivered.
    pub(super) rows_in: u64,
    /// Rows that came too late for their window and were dropped; `None` if nobody could say.
    pub(super) late_rows: Option<u64>,
    /// The sink against the oracle.
    pub(super) rows: Comparison,
}

/// One kind of connection, over all processes.
#[derive(Debug, Serialize)]
pub(super) struct EndpointReport {
    pub(super) endpoint: &'static str,
    /// Processes that have it.
    pub(super) processes: usize,
    /// The lowest of the processes'.
    pub(super) generation: u64,
    pub(super) handshakes: u64,
    pub(super) failed_handshakes: u64,
    pub(super) refused_connects: u64,
    pub(super) renewed: u64,
    /// Connections that did not finish in time and were cut.
    pub(super) cut: u64,
    pub(super) probes: u64,
    /// Probes that got an older certificate than an earlier one had.
    pub(super) went_back: u64,
    /// Probes that got a certificate that was never on disk.
    pub(super) unknown_certificates: u64,
    pub(super) slowest_served_ms: u64,
    pub(super) last_old_byte_ms: u64,
    pub(super) listener_rebinds: u64,
}

impl EndpointReport {
    /// Sums up what the cluster reports about itself and what the probers saw from outside.
    fn of(kind: Kind, processes: &[ProcessTls], probed: &[Probed]) -> Self {
        let statuses: Vec<&EndpointStatus> = processes
            .iter()
            .flat_map(|process| &process.endpoints)
            .filter(|status| status.endpoint == kind.name())
            .collect();
        let ports: Vec<&Probed> = probed.iter().filter(|port| port.kind == kind).collect();
        let sum = |field: fn(&EndpointStatus) -> u64| statuses.iter().map(|status| field(status)).sum::<u64>();
        let seen = |field: fn(&Probed) -> u64| ports.iter().map(|port| field(port)).sum::<u64>();
        let generations = statuses.iter().filter_map(|status| status.bundle.as_ref()).map(|bundle| bundle.generation);
        let slowest = ports.iter().map(|port| port.follower.slowest).max().unwrap_or_default();
        Self {
            endpoint: kind.name(),
            processes: statuses.len(),
            generation: generations.min().unwrap_or(0),
            handshakes: sum(|status| status.handshakes),
            failed_handshakes: sum(|status| status.failed_handshakes) + seen(|port| port.failed),
            refused_connects: sum(|status| status.refused_connects) + seen(|port| port.refused),
            renewed: sum(|status| status.renewed),
            cut: sum(|status| status.killed),
            probes: seen(|port| port.probes),
            went_back: seen(|port| port.follower.went_back),
            unknown_certificates: seen(|port| port.follower.unknown),
            slowest_served_ms: millis(slowest),
            last_old_byte_ms: statuses.iter().map(|status| status.last_old_byte_ms).max().unwrap_or(0),
            listener_rebinds: sum(|status| status.listener_rebinds),
        }
    }

    /// What is not as it must be after `rotations` at this pace.
    fn findings(&self, rotations: u64, rotate_every: Duration, findings: &mut Vec<String>) {
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
    fn findings(&self, findings: &mut Vec<String>) {
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
    fn findings(self, due: u64, findings: &mut Vec<String>) {
        let total = self.total();
        if total < (due * 9).div_ceil(10).min(due.saturating_sub(1)).max(1) {
            findings.push(format!("only {total} rotations where {due} were due: the machine is too busy"));
        }
        if total >= ENOUGH_FOR_ALL_WAYS && [self.in_place, self.renamed, self.swapped].contains(&0) {
            findings.push("not all ways of replacing files had their turn".to_owned());
        }
    }
}

/// What the scenario knows beside the figures of the endpoints.
#[derive(Debug)]
pub(super) struct Observations {
    pub(super) rotate_every: Duration,
    pub(super) job: JobReport,
    pub(super) rotations: Rotations,
    pub(super) processes_started: usize,
    /// The last reports.
    pub(super) processes: Vec<ProcessTls>,
    pub(super) probed: Vec<Probed>,
    /// What went wrong on the way, in words.
    pub(super) incidents: Vec<String>,
}

impl Report {
    pub(super) fn new(observations: Observations) -> Self {
        let Observations { rotate_every, job, rotations, processes_started, processes, probed, incidents } =
            observations;
        let mut findings = Vec::new();
        job.findings(&mut findings);
        rotations.findings(due(job.duration_ms, rotate_every), &mut findings);
        let processes_reported = processes.iter().filter(|process| process.error.is_none()).count();
        if processes_reported != processes_started {
            findings.push(format!("{processes_started} processes were started, {processes_reported} report"));
        }
        let errors = processes.iter().filter_map(|process| Some((label(process), process.error.as_ref()?)));
        findings.extend(errors.map(|(name, error)| format!("{name}: {error}")));
        let endpoints: Vec<_> = Kind::ALL.map(|kind| EndpointReport::of(kind, &processes, &probed)).into();
        endpoints.iter().for_each(|endpoint| endpoint.findings(rotations.total(), rotate_every, &mut findings));
        findings.extend(probed.into_iter().flat_map(|port| port.failures));
        findings.extend(incidents);
        Self {
            passed: findings.is_empty(),
            findings,
            rotate_every_ms: millis(rotate_every),
            job,
            rotations,
            processes_started,
            processes_reported,
            endpoints,
        }
    }

    /// Notes something that went wrong after the report was made.
    pub(super) fn add_finding(&mut self, finding: String) {
        self.findings.push(finding);
        self.passed = false;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rotations { in_place, renamed, swapped } = self.rotations;
        let total = self.rotations.total();
        let late = self.job.late_rows.map_or_else(|| "unknown".to_owned(), count);
        writeln!(f, "rows in    {}", count(self.job.rows_in))?;
        writeln!(f, "rows late  {late}")?;
        writeln!(f, "rows out   {}", count(self.job.rows.rows_out))?;
        writeln!(f, "exact      {}", if self.job.rows.exact { "yes" } else { "no" })?;
        writeln!(f, "rotations  {total} ({in_place} in place, {renamed} by rename, {swapped} by ..data swap)\n")?;
        let mut table = Table::new([
            "ENDPOINT",
            "GENERATION",
            "HANDSHAKES",
            "PROBES",
            "FAILED",
            "REFUSED",
            "RENEWED",
            "CUT",
            "REPLACED -> SERVED",
            "LAST OLD BYTE",
        ]);
        for endpoint in &self.endpoints {
            table.row([
                endpoint.endpoint.to_owned(),
                endpoint.generation.to_string(),
                count(endpoint.handshakes),
                count(endpoint.probes),
                count(endpoint.failed_handshakes),
                count(endpoint.refused_connects),
                count(endpoint.renewed),
                count(endpoint.cut),
                duration(Duration::from_millis(endpoint.slowest_served_ms)),
                duration(Duration::from_millis(endpoint.last_old_byte_ms)),
            ]);
        }
        writeln!(f, "{table}")?;
        if self.passed {
            let limit = STALE_AFTER.as_secs();
            return writeln!(
                f,
                "passed: nothing lost, doubled, refused or stale (in use for more than {limit} s after its replacement)"
            );
        }
        writeln!(f, "FAILED:")?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}

/// A certificate that is served, or written under, for longer than this after its replacement is stale. It takes the
/// quiet period (0.3 s, at most 3 s) and some milliseconds on an idle machine; a busy one must not fail by luck. Half of
/// the poll interval: were events missed and polls left to find the changes, a minute of rotations would not pass.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(5);

/// Rotations after which each way has had its turn, whatever their order.
const ENOUGH_FOR_ALL_WAYS: u64 = 12;

/// Rotations that a job of this duration should see; at least one.
fn due(job_ms: i64, rotate_every: Duration) -> u64 {
    u64::try_from(job_ms).unwrap_or(0).checked_div(millis(rotate_every)).unwrap_or(0).max(1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn job() -> JobReport {
        let rows = Comparison { rows_in: 10, rows_out: 2, missing: 0, extra: 0, exact: true };
        let state = "FINISHED".to_owned();
        JobReport { state, cause: None, duration_ms: 60_000, rows_in: 10, late_rows: Some(0), rows }
    }

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

    fn observations(job: JobReport, processes: Vec<ProcessTls>) -> Observations {
        Observations {
            rotate_every: SECOND,
            job,
            rotations: Rotations { in_place: 15, renamed: 30, swapped: 15 },
            processes_started: 1,
            processes,
            probed: Vec::new(),
            incidents: Vec::new(),
        }
    }

    #[test]
    fn a_process_that_does_not_report_is_a_finding() {
        let process = |error: Option<&str>| ProcessTls {
            process: "taskmanager".to_owned(),
            id: "taskmanager-1".to_owned(),
            endpoints: Vec::new(),
            error: error.map(str::to_owned),
        };
        let said = |processes| Report::new(observations(job(), processes)).to_string();
        let missing = "1 processes were started, 0 report";
        assert!(said(Vec::new()).contains(missing));
        assert!(!said(vec![process(None)]).contains(missing));
        let unreachable = said(vec![process(Some("cannot be reached"))]);
        assert!(unreachable.contains(missing) && unreachable.contains("taskmanager-1: cannot be reached"));
    }

    #[test]
    fn a_lost_row_fails_the_report() {
        let rows = Comparison { missing: 1, exact: false, ..job().rows };
        let report = Report::new(observations(JobReport { rows, ..job() }, Vec::new()));
        assert!(!report.passed);
        assert!(report.to_string().contains("exact      no"));
        assert!(report.to_string().contains("1 rows lost"));
    }
}
