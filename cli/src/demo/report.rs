//! What the demo says at its end, for people and as JSON, and whether it passed: without [`super::findings`].

use std::fmt;
use std::time::Duration;

use engine::batch::Comparison;
use rest_gateway::dto::ProcessTls;
use serde::Serialize;
use tls_common::EndpointStatus;

use super::findings::{STALE_AFTER, due};
use super::probe::Probed;
use super::rotation::Rotations;
use crate::commands::table::{Table, count, duration};
use crate::commands::tls_status::label;
use crate::probe::Kind;

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
    pub(super) fn of(kind: Kind, processes: &[ProcessTls], probed: &[Probed]) -> Self {
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

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(in crate::demo) mod tests {
    use super::*;

    pub(in crate::demo) fn job() -> JobReport {
        let rows = Comparison { rows_in: 10, rows_out: 2, missing: 0, extra: 0, exact: true };
        let state = "FINISHED".to_owned();
        JobReport { state, cause: None, duration_ms: 60_000, rows_in: 10, late_rows: Some(0), rows }
    }

    fn observations(job: JobReport, processes: Vec<ProcessTls>) -> Observations {
        Observations {
            rotate_every: Duration::from_secs(1),
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
