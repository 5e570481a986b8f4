//! What the demo says at its end, for people and as JSON, and whether it passed.

use std::fmt;
use std::time::Duration;

use engine::batch::Comparison;
use rest_gateway::dto::ProcessTls;
use serde::Serialize;
use tls_common::EndpointStatus;

use super::probe::{Kind, Probed};
use super::rotation::Rotations;
use crate::commands::table::{Table, count, duration};

/// Everything measured. Durations are milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) passed: bool,
    /// What is not as it must be, in words.
    pub(super) findings: Vec<String>,
    pub(super) rotate_every_ms: u64,
    pub(super) job: JobReport,
    pub(super) rotations: Rotations,
    pub(super) endpoints: Vec<EndpointReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct JobReport {
    pub(super) state: String,
    /// Why it failed, if it did.
    pub(super) cause: Option<String>,
    pub(super) duration_ms: i64,
    /// The sink against the oracle.
    pub(super) rows: Comparison,
}

/// One kind of connection, over all processes.
#[derive(Debug, Serialize)]
pub(super) struct EndpointReport {
    pub(super) endpoint: &'static str,
    /// The lowest of the processes'.
    pub(super) generation: u64,
    pub(super) handshakes: u64,
    pub(super) failed_handshakes: u64,
    pub(super) refused_connects: u64,
    pub(super) renewed: u64,
    /// Connections that did not finish in time and were cut.
    pub(super) cut: u64,
    pub(super) probes: u64,
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
            generation: generations.min().unwrap_or(0),
            handshakes: sum(|status| status.handshakes),
            failed_handshakes: sum(|status| status.failed_handshakes) + seen(|port| port.failed),
            refused_connects: sum(|status| status.refused_connects) + seen(|port| port.refused),
            renewed: sum(|status| status.renewed),
            cut: sum(|status| status.killed),
            probes: seen(|port| port.probes),
            slowest_served_ms: millis(slowest),
            last_old_byte_ms: statuses.iter().map(|status| status.last_old_byte_ms).max().unwrap_or(0),
            listener_rebinds: sum(|status| status.listener_rebinds),
        }
    }

    fn findings(&self, findings: &mut Vec<String>) {
        let name = self.endpoint;
        let mut none = |number: u64, what: &str| {
            if number > 0 {
                findings.push(format!("{name}: {number} {what}"));
            }
        };
        none(self.failed_handshakes, "failed handshakes");
        none(self.refused_connects, "refused connects");
        none(self.cut, "connections cut because they did not finish in time");
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
    }
}

/// What the scenario knows beside the figures of the endpoints.
#[derive(Debug)]
pub(super) struct Observations {
    pub(super) rotate_every: Duration,
    pub(super) job: JobReport,
    pub(super) rotations: Rotations,
    pub(super) processes: Vec<ProcessTls>,
    pub(super) probed: Vec<Probed>,
    /// What went wrong on the way, in words.
    pub(super) incidents: Vec<String>,
}

impl Report {
    pub(super) fn new(observations: Observations) -> Self {
        let Observations { rotate_every, job, rotations, processes, probed, incidents } = observations;
        let mut findings = Vec::new();
        if job.state != "FINISHED" {
            findings.push(format!("the job is {}: {}", job.state, job.cause.as_deref().unwrap_or("no cause given")));
        }
        if !job.rows.exact {
            findings.push(format!("{} rows lost, {} doubled or wrong", job.rows.missing, job.rows.extra));
        }
        let due = due(job.duration_ms, rotate_every);
        if rotations.total() < due.div_ceil(2) {
            findings
                .push(format!("only {} rotations where {due} were due: the machine is too busy", rotations.total()));
        }
        let endpoints: Vec<_> = Kind::ALL.map(|kind| EndpointReport::of(kind, &processes, &probed)).into();
        endpoints.iter().for_each(|endpoint| endpoint.findings(&mut findings));
        for port in probed {
            let name = port.kind.name();
            findings.extend(port.failures);
            if port.follower.went_back > 0 {
                findings.push(format!(
                    "{name}: an older certificate was served after a newer one, {} times",
                    port.follower.went_back
                ));
            }
            if port.follower.unknown > 0 {
                findings.push(format!("{name}: {} certificates that were never on disk", port.follower.unknown));
            }
        }
        findings.extend(incidents);
        Self { passed: findings.is_empty(), findings, rotate_every_ms: millis(rotate_every), job, rotations, endpoints }
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
        writeln!(f, "rows in    {}", count(self.job.rows.rows_in))?;
        writeln!(f, "rows out   {}", count(self.job.rows.rows_out))?;
        writeln!(f, "exact      {}", if self.job.rows.exact { "yes" } else { "no" })?;
        writeln!(f, "rotations  {total} ({in_place} in place, {renamed} by rename, {swapped} by ..data swap)\n")?;
        let mut table = Table::new([
            "ENDPOINT",
            "GENERATION",
            "HANDSHAKES",
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
            return writeln!(f, "passed: nothing lost, doubled, refused or stale");
        }
        writeln!(f, "FAILED:")?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}

/// A certificate that is served, or written under, for longer than this after its replacement is stale. It takes the
/// quiet period (0.3 s, at most 3 s) and some milliseconds on an idle machine; a busy one must not fail by luck. Half of
/// the poll interval: were events missed and polls left to find the changes, a minute of rotations would not pass.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(5);

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

    fn job(missing: u64) -> JobReport {
        let rows = Comparison { rows_in: 10, rows_out: 2, missing, extra: 0, exact: missing == 0 };
        JobReport { state: "FINISHED".to_owned(), cause: None, duration_ms: 60_000, rows }
    }

    fn endpoint() -> EndpointReport {
        EndpointReport {
            endpoint: "rpc",
            generation: 61,
            handshakes: 100,
            failed_handshakes: 0,
            refused_connects: 0,
            renewed: 60,
            cut: 0,
            probes: 100,
            slowest_served_ms: 400,
            last_old_byte_ms: 350,
            listener_rebinds: 0,
        }
    }

    fn findings(endpoint: &EndpointReport) -> Vec<String> {
        let mut findings = Vec::new();
        endpoint.findings(&mut findings);
        findings
    }

    #[test]
    fn a_good_endpoint_has_no_findings() {
        assert_eq!(findings(&endpoint()), Vec::<String>::new());
    }

    #[test]
    fn each_fault_of_an_endpoint_is_a_finding() {
        let faults = [
            EndpointReport { failed_handshakes: 1, ..endpoint() },
            EndpointReport { refused_connects: 1, ..endpoint() },
            EndpointReport { cut: 1, ..endpoint() },
            EndpointReport { slowest_served_ms: 5_001, ..endpoint() },
            EndpointReport { last_old_byte_ms: 5_001, ..endpoint() },
            EndpointReport { probes: 0, ..endpoint() },
        ];
        for fault in faults {
            assert_eq!(findings(&fault).len(), 1, "{fault:?}");
        }
    }

    fn observations(missing: u64, rotations: u64) -> Observations {
        Observations {
            rotate_every: Duration::from_secs(1),
            job: job(missing),
            rotations: Rotations { in_place: rotations, ..Rotations::default() },
            processes: Vec::new(),
            probed: Vec::new(),
            incidents: Vec::new(),
        }
    }

    #[test]
    fn a_rotator_that_fell_behind_fails_the_report() {
        let fell_behind =
            |rotations| Report::new(observations(0, rotations)).to_string().contains("rotations where 60 were due");
        assert!(fell_behind(0) && fell_behind(29));
        assert!(!fell_behind(30));
    }

    #[test]
    fn a_lost_row_fails_the_report() {
        let report = Report::new(observations(1, 60));
        assert!(!report.passed);
        assert!(report.to_string().contains("exact      no"));
        assert!(report.to_string().contains("1 rows lost"));
    }
}
