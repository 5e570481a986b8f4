//! `tidemill tls status`: who presents which certificate, and who has not followed a change.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rest_gateway::dto::{ProcessTls, TlsReport};

use super::connection::Common;
use super::output::{print, say};
use super::table::{Table, duration};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.common.connection.client().await?;
    if arguments.common.json {
        say(format_args!("{:#}", client.get::<serde_json::Value>(PATH).await?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let report: TlsReport = client.get(PATH).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    print(table(&report.processes, now))?;
    let remarks = remarks(&report.processes);
    if !remarks.is_empty() {
        say(format_args!("\n{}", remarks.join("\n")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(processes: &[ProcessTls], now: Duration) -> Table {
    let heads = [
        "PROCESS",
        "ENDPOINT",
        "GENERATION",
        "CERTIFICATE",
        "EXPIRES IN",
        "RELOADED",
        "CONNECTIONS",
        "HANDSHAKES",
        "FAILED",
    ];
    let mut table = Table::new(heads);
    for process in processes {
        for endpoint in &process.endpoints {
            let (generation, certificate, expires, reloaded) = match &endpoint.bundle {
                None => ("plain TCP".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()),
                Some(bundle) => (
                    bundle.generation.to_string(),
                    bundle.fingerprint.as_deref().map_or_else(|| "-".to_owned(), short),
                    bundle.not_after.map_or_else(|| "-".to_owned(), |not_after| expiry(not_after, now)),
                    ago(bundle.last_reload, now),
                ),
            };
            table.row([
                label(process),
                endpoint.endpoint.clone(),
                generation,
                certificate,
                expires,
                reloaded,
                endpoint.connections.to_string(),
                endpoint.handshakes.to_string(),
                endpoint.failed_handshakes.to_string(),
            ]);
        }
    }
    table
}

/// What somebody should do something about: unreachable processes, failing reloads, certificates near their end,
/// processes left behind.
fn remarks(processes: &[ProcessTls]) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut certificates: BTreeMap<&str, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for process in processes {
        let process_label = label(process);
        if let Some(error) = &process.error {
            remarks.push(format!("{process_label}: {error}"));
        }
        for bundle in process.endpoints.iter().filter_map(|endpoint| endpoint.bundle.as_ref()) {
            // Endpoints share bundles.
            let mut remark = |text: String| {
                if !remarks.contains(&text) {
                    remarks.push(text);
                }
            };
            if let Some(error) = &bundle.last_error {
                remark(format!(
                    "{process_label}: bundle {} goes on with generation {}: {error}",
                    bundle.bundle, bundle.generation
                ));
            }
            if let Some(alarm) = &bundle.alarm {
                remark(format!("{process_label}: bundle {}: {alarm}", bundle.bundle));
            }
            if let Some(fingerprint) = &bundle.fingerprint {
                let users = certificates.entry(&bundle.bundle).or_default().entry(fingerprint).or_default();
                if !users.contains(&process_label) {
                    users.push(process_label.clone());
                }
            }
        }
    }
    for (bundle, by_certificate) in certificates {
        let Some(most) = by_certificate.values().map(Vec::len).max().filter(|_| by_certificate.len() > 1) else {
            continue;
        };
        for (fingerprint, users) in by_certificate.iter().filter(|(_, users)| users.len() < most) {
            remarks.push(format!("bundle {bundle}: {} still or alone with {}", users.join(", "), short(fingerprint)));
        }
        if by_certificate.values().all(|users| users.len() == most) {
            remarks.push(format!(
                "bundle {bundle}: {} certificates in use, by as many processes each",
                by_certificate.len()
            ));
        }
    }
    remarks
}

/// What people call a process: its role and id, or an id that tells the role, as `taskmanager-1` does.
pub(crate) fn label(process: &ProcessTls) -> String {
    match (process.process.as_str(), process.id.as_str()) {
        (role, "") => role.to_owned(),
        (role, id) if id.starts_with(role) => id.to_owned(),
        (role, id) => format!("{role} {id}"),
    }
}

/// As much of a fingerprint as tells certificates apart.
pub(super) fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(SHORT_FINGERPRINT).collect()
}

fn expiry(not_after_s: i64, now: Duration) -> String {
    let not_after = Duration::from_secs(u64::try_from(not_after_s).unwrap_or(0));
    not_after.checked_sub(now).map_or_else(|| "EXPIRED".to_owned(), duration)
}

fn ago(unix_ms: i64, now: Duration) -> String {
    let then = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    format!("{} ago", duration(now.saturating_sub(then)))
}

const PATH: &str = "/v1/tls";
/// Hex digits of a fingerprint that a table shows.
const SHORT_FINGERPRINT: usize = 12;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn process(id: &str, fingerprint: &str, last_error: Option<&str>) -> ProcessTls {
        let bundle = json!({
            "bundle": "internal", "generation": 7, "fingerprint": fingerprint, "not_after": 1_000, "not_before": 0,
            "subject": "CN=a", "last_reload": 0, "last_error": last_error, "failed_reloads": 0, "reloads": 6,
            "watching": true
        });
        let endpoint = json!({
            "endpoint": "rpc", "bundle": bundle, "handshakes": 1, "handshakes_resumed": 0, "failed_handshakes": 0,
            "refused_connects": 0, "connections": 1, "connections_by_generation": {}, "renewed": 0, "killed": 0,
            "slowest_reload_ms": 0, "last_old_byte_ms": 0, "listener_rebinds": 0
        });
        serde_json::from_value(json!({ "process": "taskmanager", "id": id, "endpoints": [endpoint] })).unwrap()
    }

    #[test]
    fn a_name_does_not_say_the_role_twice() {
        assert_eq!(label(&process("10.0.0.7:35265-f82f99", "fe", None)), "taskmanager 10.0.0.7:35265-f82f99");
        assert_eq!(label(&process("taskmanager-1", "fe", None)), "taskmanager-1");
        assert_eq!(label(&process("", "fe", None)), "taskmanager");
    }

    #[test]
    fn who_has_not_followed_is_named() {
        let processes = [process("a", "0123456789abcdef", None), process("b", "fe", None), process("c", "fe", None)];
        assert_eq!(remarks(&processes), ["bundle internal: taskmanager a still or alone with 0123456789ab"]);
        assert!(remarks(&processes[1..]).is_empty());
    }

    #[test]
    fn a_failing_reload_and_an_unreachable_process_are_remarked() {
        let mut unreachable = process("b", "fe", None);
        unreachable.endpoints.clear();
        unreachable.error = Some("cannot be reached".to_owned());
        let remarks = remarks(&[process("a", "fe", Some("wrong password")), unreachable]);
        assert_eq!(remarks.len(), 2);
        assert!(remarks[0].contains("goes on with generation 7: wrong password"), "{remarks:?}");
        assert!(remarks[1].contains("cannot be reached"), "{remarks:?}");
    }

    #[test]
    fn a_certificate_near_its_end_is_remarked_once_per_process() {
        let mut near = process("a", "fe", Some("wrong password"));
        near.endpoints[0].bundle.as_mut().unwrap().alarm = Some("our certificate is near its end".to_owned());
        near.endpoints.push(near.endpoints[0].clone());
        let remarks = remarks(&[near]);
        assert_eq!(remarks.len(), 2);
        assert_eq!(remarks[1], "taskmanager a: bundle internal: our certificate is near its end");
    }

    #[test]
    fn an_expired_certificate_is_called_so() {
        assert_eq!(expiry(1_000, Duration::from_secs(1_001)), "EXPIRED");
        assert_eq!(expiry(1_000, Duration::from_secs(940)), "1 min 0 s");
    }
}
