//! Containers that are killed, cut off or held up.

use integration_tests::eventually;

use super::engine::{docker, inspect};
use super::jobs::Job;
use super::project::Project;

/// Paced so that it is in the middle of its rows when something happens, and for some seconds afterwards.
fn long(name: &'static str) -> Job {
    Job { name, rows: 200_000, per_second: Some(10_000) }
}

#[tokio::test]
async fn a_killed_task_manager_fails_the_job_with_the_cause_and_its_replacement_runs_the_next_one() {
    let Some(project) = Project::up("kill").await else { return };
    let before = project.has_task_managers(2).await;
    let id = project.starts(long("killed")).await;
    project.moves_rows(&id).await;
    docker(&["kill", &project.containers("taskmanager")[0]]);
    assert_eq!(project.ends(&id).await, "FAILED");
    let cause = project.cause(&id);
    assert!(before.iter().any(|manager| cause.contains(manager.as_str())) && cause.contains("lost"), "{cause}");

    project.compose(&["up", "-d"]);
    project.is_healthy(2).await;
    let after = project.has_task_managers(2).await;
    assert_eq!(after.iter().filter(|manager| before.contains(manager)).count(), 1, "{before:?} {after:?}");
    project.runs_a_job("replaced").await;
}

#[tokio::test]
async fn a_task_manager_that_is_off_the_network_for_less_than_the_reconnect_time_costs_no_row() {
    let Some(project) = Project::up("disconnect").await else { return };
    let before = project.has_task_managers(2).await;
    let id = project.starts(long("cut-off")).await;
    project.moves_rows(&id).await;
    let (network, container) = (format!("{}_cluster", project.name()), project.containers("taskmanager")[0].clone());
    docker(&["network", "disconnect", &network, &container]);
    project.misses_one(SILENCE_MS).await;
    docker(&["network", "connect", &network, &container]);
    project.ends_exact(&id, long("cut-off")).await;
    // Nobody was given up.
    assert_eq!(project.has_task_managers(2).await, before);
}

/// Some heartbeats; the JobManager gives up after 10 s, other TaskManagers as well.
const SILENCE_MS: i64 = 3_000;

#[tokio::test]
async fn a_task_manager_that_comes_back_under_another_address_costs_no_row() {
    let Some(project) = Project::up("moved").await else { return };
    let managers = project.has_task_managers(2).await;
    let id = project.starts(long("moved")).await;
    project.moves_rows(&id).await;
    let (network, container) = (format!("{}_cluster", project.name()), project.containers("taskmanager")[0].clone());
    let before = address(&container, &network);
    docker(&["network", "disconnect", &network, &container]);
    // Somebody else has it meanwhile.
    let squatter = project.squatter(&network);
    assert_eq!(address(squatter.id(), &network), before);
    docker(&["network", "connect", &network, &container]);
    assert_ne!(address(&container, &network), before);
    project.ends_exact(&id, long("moved")).await;
    assert_eq!(project.has_task_managers(2).await, managers);
    assert!(project.reconnects(&managers) > 0, "no connection was lost: nothing was tried");
}

fn address(container: &str, network: &str) -> String {
    inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn while_the_blob_server_is_held_up_a_submission_is_refused_with_the_reason_and_then_all_is_well_again() {
    let Some(project) = Project::up("pause").await else { return };
    let blob_server = project.container("blob-server");
    let running = long("not-touched");
    let id = project.starts(running).await;
    docker(&["pause", &blob_server]);
    let refused = project.try_submit(&Job { name: "refused", rows: 1_000, per_second: None }.sql());
    let why = refused.expect_err("a script cannot be stored while the blob server stands still");
    assert!(why.contains("blob server"), "{why}");
    docker(&["unpause", &blob_server]);
    project.ends_exact(&id, running).await;
    eventually("the blob server takes scripts again", async || {
        project.try_submit(&Job { name: "probe", rows: 10, per_second: None }.sql())
    })
    .await;
    project.is_healthy(2).await;
    project.runs_a_job("recovered").await;
}
