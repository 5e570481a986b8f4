//! A JobManager, two TaskManagers and a blob server in one process over plain TCP: jobs from submission to their end.
//! What needs real processes or certificates is in `integration-tests`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod harness;

use harness::{Cluster, Options};
use proto::ids::JobId;
use proto::v1::{JobState, TaskState};
use tonic::Code;

/// Rows that come from everywhere and meet by key; the sink has one row per key.
fn bounded(out: &std::path::Path) -> String {
    format!(
        "CREATE TABLE numbers (k INT, at TIMESTAMP(3)) WITH ('connector' = 'datagen', 'number-of-rows' = '10000', 'seed' = '7',
           'fields.k.min' = '0', 'fields.k.max' = '9',
           'fields.at.kind' = 'sequence', 'fields.at.start' = '2026-01-01 00:00:00', 'fields.at.end' = '2026-01-01 00:30:00',
           'watermark.column' = 'at');
         CREATE TABLE counts (k INT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         INSERT INTO counts SELECT k, count(*) FROM numbers GROUP BY k, date_bin(INTERVAL '1 day', at);",
        out.display()
    )
}

const UNBOUNDED: &str = "
    CREATE TABLE numbers (k INT, at TIMESTAMP(3)) WITH ('connector' = 'datagen', 'rows-per-second' = '100',
      'fields.k.min' = '0', 'fields.k.max' = '9', 'fields.at.kind' = 'sequence', 'fields.at.start' = '2026-01-01 00:00:00',
      'fields.at.end' = '2126-01-01 00:00:00', 'watermark.column' = 'at');
    CREATE TABLE nowhere (k INT, n BIGINT) WITH ('connector' = 'blackhole');
    INSERT INTO nowhere SELECT k, count(*) FROM numbers GROUP BY k, date_bin(INTERVAL '1 day', at);";

/// Ends at once and leaves nothing behind.
const BRIEF: &str = "
    CREATE TABLE numbers (k INT, at TIMESTAMP(3)) WITH ('connector' = 'datagen', 'number-of-rows' = '10',
      'fields.at.kind' = 'sequence', 'fields.at.start' = '2026-01-01 00:00:00', 'fields.at.end' = '2026-01-01 00:30:00',
      'watermark.column' = 'at');
    CREATE TABLE nowhere (k INT, n BIGINT) WITH ('connector' = 'blackhole');
    INSERT INTO nowhere SELECT k, count(*) FROM numbers GROUP BY k, date_bin(INTERVAL '1 day', at);";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_on_both_task_managers_and_finishes() {
    let cluster = Cluster::start(Options::default()).await;
    let out = tempfile::tempdir().unwrap();
    let sink = out.path().join("counts");
    let job = cluster.submit(&bounded(&sink), 4).await.unwrap();
    let details = cluster.until(job, JobState::Finished).await;

    let states: Vec<_> = details.timestamps.iter().map(|entry| entry.state()).collect();
    assert_eq!(states, [JobState::Initializing, JobState::Created, JobState::Running, JobState::Finished]);
    let last = details.vertices.last().unwrap();
    let mut hosts: Vec<_> = last.subtasks.iter().map(|subtask| subtask.task_manager_id.as_str()).collect();
    assert_eq!(hosts.len(), 4);
    hosts.sort_unstable();
    hosts.dedup();
    assert_eq!(hosts, ["tm0", "tm1"], "spread over both");
    let first = details.vertices.first().unwrap();
    assert_eq!(first.metrics.unwrap().records_in, 10_000);
    assert_eq!(last.metrics.unwrap().records_out, 10);
    assert!(
        details.vertices.iter().all(|vertex| vertex.state() == TaskState::Finished && vertex.end_time_ms.is_some())
    );
    let rows: usize = std::fs::read_dir(&sink).unwrap().map(|part| count_lines(&part.unwrap().path())).sum();
    assert_eq!(rows, 10);

    assert_eq!(cluster.cancel(job).await.unwrap_err().code(), Code::FailedPrecondition);
    let overview = cluster.overview().await;
    assert_eq!((overview.jobs_finished, overview.jobs_running, overview.slots_available), (1, 0, 4));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_can_be_cancelled_and_leaves_its_slots() {
    let cluster = Cluster::start(Options::default()).await;
    let job = cluster.submit(UNBOUNDED, 4).await.unwrap();
    cluster.until_tasks_are(job, TaskState::Running).await;
    assert_eq!(cluster.overview().await.slots_available, 0);
    cluster.cancel(job).await.unwrap();
    let details = cluster.until(job, JobState::Canceled).await;
    assert!(details.failure.is_none());
    assert_eq!(cluster.overview().await.slots_available, 4);
    // As if the first answer had got lost.
    cluster.cancel(job).await.unwrap();
    assert_eq!(cluster.cancel(JobId::random()).await.unwrap_err().code(), Code::NotFound);
    // The slots can be used at once.
    let next = cluster.submit(UNBOUNDED, 4).await.unwrap();
    cluster.until_tasks_are(next, TaskState::Running).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_slots_fail_the_job_with_the_numbers() {
    let cluster = Cluster::start(Options { slot_request_timeout: "200 ms", ..Options::default() }).await;
    let job = cluster.submit(UNBOUNDED, 5).await.unwrap();
    let cause = cluster.until(job, JobState::Failed).await.failure.unwrap().cause;
    assert!(cause.starts_with("NoResourceAvailableException: the job needs 5 slot(s)"), "{cause}");
    assert!(cause.contains("4 free of 4 slot(s) on 2 TaskManager(s)"), "{cause}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_cannot_be_planned_is_refused_and_a_repeated_submission_starts_nothing() {
    let cluster = Cluster::start(Options::default()).await;
    let refused = cluster.submit("SELECT 1", 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let missing = cluster.submit_digest(JobId::random(), &"0".repeat(64), 1).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    let job = cluster.submit(UNBOUNDED, 1).await.unwrap();
    let digest = cluster.store(UNBOUNDED).await;
    cluster.submit_digest(job, &digest, 1).await.unwrap();
    let other = cluster.store("another script").await;
    assert_eq!(cluster.submit_digest(job, &other, 1).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(cluster.overview().await.jobs_running, 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_deleted_with_the_last_job_that_has_it() {
    let cluster = Cluster::start(Options { jobstore_max_capacity: "1", ..Options::default() }).await;
    let script = |name: &str| format!("-- {name}\n{BRIEF}");
    let run = async |name: &str| {
        let job = cluster.submit(&script(name), 1).await.unwrap();
        cluster.until(job, JobState::Finished).await;
    };
    let (shared, once) =
        (cluster.store(&script("shared")).await.parse().unwrap(), cluster.store(&script("once")).await);
    let once = once.parse().unwrap();
    run("shared").await;
    // Forgets the first, whose script the second has, too.
    run("shared").await;
    assert!(cluster.is_stored(&shared).await);
    run("once").await;
    cluster.until_deleted(&shared).await;
    assert!(cluster.is_stored(&once).await, "its job can still be looked at");
    // It can be submitted anew: submitting stores it.
    run("shared").await;
    cluster.until_deleted(&once).await;
    assert!(cluster.is_stored(&shared).await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_task_fails_the_job_with_its_own_cause() {
    let cluster = Cluster::start(Options::default()).await;
    let dir = tempfile::tempdir().unwrap();
    // A file where the sink wants its directory.
    let path = dir.path().join("counts");
    std::fs::write(&path, "in the way").unwrap();
    let job = cluster.submit(&bounded(&path), 2).await.unwrap();
    let failure = cluster.until(job, JobState::Failed).await.failure.unwrap();
    assert!(failure.cause.contains("counts"), "not what a neighbour noticed: {}", failure.cause);
    assert!(!failure.task.is_empty() && !failure.task_manager_id.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_manager_that_leaves_fails_its_jobs_and_only_those() {
    let mut cluster = Cluster::start(Options::default()).await;
    let both = cluster.submit(UNBOUNDED, 3).await.unwrap();
    cluster.until_tasks_are(both, TaskState::Running).await;
    cluster.stop_task_manager("tm1").await;
    let cause = cluster.until(both, JobState::Failed).await.failure.unwrap().cause;
    assert_eq!(cause, "TaskManager tm1 at localhost lost: it was shut down");
    let one = cluster.submit(UNBOUNDED, 2).await.unwrap();
    cluster.until_tasks_are(one, TaskState::Running).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_task_manager_is_given_up_and_taken_back_when_it_speaks_again() {
    let mut cluster = Cluster::start(Options { heartbeat_timeout: "5 s", ..Options::default() }).await;
    let job = cluster.submit(UNBOUNDED, 4).await.unwrap();
    cluster.until_tasks_are(job, TaskState::Running).await;
    cluster.kill_task_manager("tm1").await;
    let cause = cluster.until(job, JobState::Failed).await.failure.unwrap().cause;
    assert!(cause.starts_with("TaskManager tm1 at localhost lost: no heartbeat for 5 s"), "{cause}");
    cluster.start_task_manager("tm1").await;
    cluster.until_task_managers(2).await;
    let next = cluster.submit(UNBOUNDED, 4).await.unwrap();
    cluster.until_tasks_are(next, TaskState::Running).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_managers_find_a_restarted_job_manager_and_drop_the_tasks_of_the_old_one() {
    let mut cluster = Cluster::start(Options::default()).await;
    let lost = cluster.submit(UNBOUNDED, 4).await.unwrap();
    cluster.until_tasks_are(lost, TaskState::Running).await;
    cluster.restart_job_manager().await;
    cluster.until_task_managers(2).await;
    assert_eq!(cluster.describe(lost).await.unwrap_err().code(), Code::NotFound);
    let next = cluster.submit(UNBOUNDED, 4).await.unwrap();
    cluster.until_tasks_are(next, TaskState::Running).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_reports_their_endpoints() {
    let cluster = Cluster::start(Options::default()).await;
    let processes = cluster.tls_status_of_all().await;
    let names: Vec<_> = processes.iter().map(|process| (process.process.as_str(), process.id.as_str())).collect();
    assert_eq!(names[1..], [("taskmanager", "tm0"), ("taskmanager", "tm1")]);
    let jobmanager = format!("localhost:{}", cluster.jobmanager_port());
    assert_eq!(names[0], ("jobmanager", jobmanager.as_str()), "by the name it is called by");
    for process in &processes {
        let endpoints: Vec<tls_common::EndpointStatus> = serde_json::from_str(&process.endpoints_json).unwrap();
        assert!(endpoints.iter().any(|endpoint| endpoint.endpoint == "rpc" && endpoint.bundle.is_none()));
    }
    cluster.stop().await;
}

fn count_lines(path: &std::path::Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}
