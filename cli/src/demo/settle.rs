//! After the last rotation: everybody follows, the probing ends, and the last reports come in.

use std::collections::BTreeMap;
use std::time::Duration;

use rest_gateway::dto::{ProcessTls, TaskManagers, TlsReport};
use tokio::time::{Instant, sleep};

use super::findings::STALE_AFTER;
use super::incidents::Incidents;
use super::probe::Probers;
use crate::commands::tls_status::label;
use crate::rest::RestClient;

/// Waits until every process and every port uses what is on disk; who does not is an incident each.
pub(super) async fn settle(client: &RestClient, probers: &Probers, on_disk: (&str, &str), incidents: &mut Incidents) {
    let mut processes = Vec::new();
    let settled = within(STALE_AFTER, async || {
        match client.get::<TlsReport>(TLS).await {
            Ok(report) => processes = report.processes,
            Err(error) => incidents.note(format!("a request failed: {error}")),
        }
        !processes.is_empty() && left_behind(&processes, on_disk).is_empty() && probers.all_current()
    });
    if !settled.await {
        left_behind(&processes, on_disk).into_iter().for_each(|name| incidents.note(name));
        if !probers.all_current() {
            incidents.note(format!("a port did not serve the last certificate within {STALE_AFTER:?}"));
        }
    }
}

/// What every process reports that counts everything up to now; `started` of them are expected to.
pub(super) async fn last_reports(client: &RestClient, started: usize, incidents: &mut Incidents) -> Vec<ProcessTls> {
    let mut heartbeats = Heartbeats::default();
    let fresh = within(FRESH_WITHIN, async || match client.get::<TaskManagers>("/v1/taskmanagers").await {
        Ok(answer) => heartbeats.all_fresh(&answer),
        Err(error) => {
            incidents.note(format!("a request failed: {error}"));
            false
        }
    });
    if !fresh.await {
        incidents.note(format!("a TaskManager did not report within {FRESH_WITHIN:?} after the last probe"));
    }
    // Who is missing at the end is found in the report.
    let mut processes = Vec::new();
    within(FRESH_WITHIN, async || match client.get::<TlsReport>(TLS).await {
        Ok(report) => {
            processes = report.processes;
            processes.iter().filter(|process| process.error.is_none()).count() == started
        }
        Err(error) => {
            incidents.note(format!("the cluster does not report its TLS: {error}"));
            false
        }
    })
    .await;
    processes
}

/// Looks until it is so, or for so long; answers whether it was. A look under way is not given up: a request dropped in the
/// middle of its handshake would count as one that the gateway failed.
async fn within(limit: Duration, mut is_so: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if is_so().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(POLL).await;
    }
}

/// What is known of the TaskManagers comes with their heartbeats. The first one that is heard of may have been made
/// before that; the next is made after the first was answered.
#[derive(Debug, Default)]
struct Heartbeats {
    /// By TaskManager: the moment of the last one, and how many came since the first look.
    seen: BTreeMap<String, (i64, u32)>,
}

impl Heartbeats {
    fn all_fresh(&mut self, answer: &TaskManagers) -> bool {
        for manager in &answer.taskmanagers {
            let moment = manager.time_since_last_heartbeat;
            let (last, fresh) = self.seen.entry(manager.id.clone()).or_insert((moment, 0));
            if *last != moment {
                (*last, *fresh) = (moment, *fresh + 1);
            }
        }
        self.seen.values().all(|(_, fresh)| *fresh >= 2)
    }
}

/// Who does not use the certificates on disk (internal, REST), in words.
fn left_behind(processes: &[ProcessTls], on_disk: (&str, &str)) -> Vec<String> {
    let mut behind = Vec::new();
    for process in processes {
        let name = label(process);
        if let Some(error) = &process.error {
            behind.push(format!("{name}: {error}"));
        }
        for status in &process.endpoints {
            let expected = if status.endpoint == "rest" { on_disk.1 } else { on_disk.0 };
            match &status.bundle {
                None => behind.push(format!("{name}: {} is not secured", status.endpoint)),
                Some(bundle) if bundle.fingerprint.as_deref() != Some(expected) => {
                    let error = bundle.last_error.as_deref().unwrap_or("no error");
                    behind.push(format!(
                        "{name}: {} is left at generation {} ({error})",
                        status.endpoint, bundle.generation
                    ));
                }
                Some(_) => {}
            }
        }
    }
    behind
}

pub(super) const TLS: &str = "/v1/tls";
const POLL: Duration = Duration::from_millis(200);
/// For two heartbeats of every TaskManager, which take two seconds on an idle machine.
const FRESH_WITHIN: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn managers(heartbeats: &[(&str, i64)]) -> TaskManagers {
        let resource = json!({
            "cpuCores": 1.0, "taskHeapMemory": -1, "taskOffHeapMemory": -1, "managedMemory": -1, "networkMemory": -1,
            "extendedResources": {}
        });
        let manager = |(id, heartbeat): &(&str, i64)| {
            json!({
                "id": id, "path": "", "dataPort": 0, "jmxPort": -1, "timeSinceLastHeartbeat": heartbeat,
                "slotsNumber": 1, "freeSlots": 1, "assignedTasks": 0, "totalResource": resource, "freeResource": resource,
                "hardware": { "cpuCores": 1, "physicalMemory": 0, "freeMemory": 0, "managedMemory": 0 },
                "memoryConfiguration": {}
            })
        };
        let managers: Vec<_> = heartbeats.iter().map(manager).collect();
        serde_json::from_value(json!({ "taskmanagers": managers })).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_has_begun_comes_to_its_end() {
        let (begun, limit) = (Instant::now(), Duration::from_secs(5));
        let mut looks = 0;
        let slow = async || {
            looks += 1;
            sleep(2 * limit).await;
            true
        };
        assert!(within(limit, slow).await);
        assert_eq!((looks, begun.elapsed()), (1, 2 * limit));
        assert!(!within(limit, async || false).await);
        assert!(begun.elapsed() < 3 * limit + POLL);
    }

    #[test]
    fn two_heartbeats_of_each_task_manager_are_awaited() {
        let mut heartbeats = Heartbeats::default();
        for (a, b, fresh) in [(1, 1, false), (2, 1, false), (3, 2, false), (3, 2, false), (3, 3, true)] {
            assert_eq!(heartbeats.all_fresh(&managers(&[("a", a), ("b", b)])), fresh, "{a} {b}");
        }
    }

    #[test]
    fn a_task_manager_that_is_gone_is_still_awaited() {
        let mut heartbeats = Heartbeats::default();
        heartbeats.all_fresh(&managers(&[("a", 1), ("b", 1)]));
        heartbeats.all_fresh(&managers(&[("a", 2)]));
        assert!(!heartbeats.all_fresh(&managers(&[("a", 3)])));
    }
}
