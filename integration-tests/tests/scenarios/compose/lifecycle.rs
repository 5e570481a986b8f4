//! Up, down, up again, and more or fewer of them.

use std::fs;

use serde_json::Value;

use super::engine::inspect;
use super::jobs::Job;
use super::project::{Project, SERVERS};

#[tokio::test]
async fn from_nothing_one_command_brings_up_a_cluster_that_takes_a_job_from_curl_over_https() {
    let Some(project) = Project::up("up").await else { return };
    assert_eq!(project.get("/v1/overview")["taskmanagers"], 2);
    assert_eq!(inspect(&project.container("certs"))["State"]["ExitCode"], 0);
    project.runs_a_job("first").await;
    // A health check that would always say yes is none: nobody listens there.
    let jobmanager = ["exec", "-T", "taskmanager", "tidemill", "health", "jobmanager"];
    let unhealthy = project.try_compose(&jobmanager);
    let said = String::from_utf8_lossy(&unhealthy.stderr);
    assert!(!unhealthy.status.success() && said.contains("jobmanager is not healthy"), "{said}");
}

#[tokio::test]
async fn the_benchmark_reports_the_shuffle_across_containers_and_when_it_was_rotated() {
    let Some(mut project) = Project::up("bench").await else { return };
    for (key, value) in [("BENCH_PRESET", "quick"), ("ROTATE_EVERY", "1s")] {
        project.set(key, value);
    }
    let report = project.reports_to();
    project.compose(&["--profile", "bench", "up", "-d", "rotate"]);
    project.compose(&["--profile", "bench", "run", "--rm", "-T", "bench"]);
    let json: Value = serde_json::from_slice(&fs::read(report.join("report.json")).unwrap()).unwrap();
    let cell = &json["cells"][0];
    assert!(cell["gib_per_second"]["median"].as_f64() > Some(0.0), "{json}");
    assert!(cell["rotations"].as_u64() > Some(0), "{json}");
    assert!(fs::read_to_string(report.join("report.md")).unwrap().contains("job TLS"));
    assert!(fs::read_to_string(report.join("throughput.svg")).unwrap().contains("<svg"));
}

#[tokio::test]
async fn down_leaves_nothing_but_the_volumes_and_the_next_up_keeps_the_identities() {
    let Some(project) = Project::up("again").await else { return };
    let before = fingerprints(&project.get("/v1/tls"));
    assert_eq!(before.len(), 5);
    // Who is stopped in time has drained, and was not killed; a job is no reason to stay.
    project.moves_rows(&project.starts(Job { name: "stopped", rows: 200_000, per_second: Some(1_000) }).await).await;
    project.compose(&["stop"]);
    for service in SERVERS {
        for container in project.containers(service) {
            assert_eq!(inspect(&container)["State"]["ExitCode"], 0, "{service}");
        }
    }
    project.compose(&["down"]);
    assert_eq!(project.left("container"), [""; 0]);
    assert_eq!(project.left("network"), [""; 0]);
    assert_eq!(project.left("volume"), ["data", "tls"]);

    project.compose(&["up", "-d"]);
    project.is_healthy(2).await;
    assert_eq!(fingerprints(&project.get("/v1/tls")), before);
    let said = project.compose(&["logs", "--no-color", "certs"]);
    assert!(said.contains("kept what is in"), "{said}");
    project.runs_a_job("afterwards").await;
}

/// Of every process, sorted: its role, and the certificate of each endpoint.
fn fingerprints(report: &Value) -> Vec<String> {
    let processes = report["processes"].as_array().unwrap();
    let certificate = |endpoint: &Value| format!("{} {}", endpoint["endpoint"], endpoint["bundle"]["fingerprint"]);
    let line = |process: &Value| {
        let certificates = process["endpoints"].as_array().unwrap().iter().map(certificate);
        format!("{} {:?}", process["process"], certificates.collect::<Vec<_>>())
    };
    let mut lines: Vec<String> = processes.iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn task_managers_come_and_go_while_a_job_runs_on_others_and_the_next_job_uses_who_is_there() {
    let Some(project) = Project::up("scale").await else { return };
    let before = project.has_task_managers(2).await;
    let job = Job { name: "while-scaled", rows: 200_000, per_second: Some(10_000) };
    let id = project.starts(job).await;
    project.compose(&["up", "-d", "--no-recreate", "--scale", "taskmanager=4"]);
    let more = project.has_task_managers(4).await;
    assert!(before.iter().all(|id| more.contains(id)), "{before:?} {more:?}");
    project.ends_exact(&id, job).await;

    project.compose(&["up", "-d", "--no-recreate", "--scale", "taskmanager=2"]);
    project.is_healthy(2).await;
    project.runs_a_job("after-scaling").await;
}
