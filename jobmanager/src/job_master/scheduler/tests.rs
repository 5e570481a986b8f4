//! One job at a time: what each event leads to. Orders of events that nobody thought of are the simulation's business
//! (`cluster::simulation`).

#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::plan::tests::shuffle;
use super::*;

const JOB: JobId = JobId::from_bytes([7; 16]);

fn placement(n: u8) -> Placement {
    let address = Address { id: format!("tm{n}").parse().unwrap(), host: "host".to_owned(), rpc_port: 1, data_port: 2 };
    Placement { instance: InstanceId::from_bytes([n; 16]), address, slot: 0 }
}

/// A job of one source and two windows on two TaskManagers, deployed, and the commands that did it.
fn deployed_job() -> (Scheduler, Vec<Command>) {
    let blob = BlobAddress { host: "blob".to_owned(), port: 6124 };
    let mut job = Scheduler::new(JOB, Arc::new(shuffle(1, 2)), blob, 1, 2);
    job.deploy(3, &[placement(1), placement(2)]);
    let commands = job.take_commands();
    (job, commands)
}

fn update(job: &mut Scheduler, index: usize, sequence: u64, state: TaskState) -> bool {
    let task = job.execution().tasks().nth(index).unwrap();
    let (attempt, instance) = (task.attempt, task.placement.as_ref().unwrap().instance);
    let cause = if state == TaskState::Failed { "disk full" } else { "" }.to_owned();
    job.update(
        9,
        instance,
        TaskUpdate { attempt, sequence, state, cause, symptom: false, metrics: TaskMetrics::default() },
    )
}

fn states(job: &Scheduler) -> Vec<TaskState> {
    job.execution().tasks().map(|task| task.state).collect()
}

fn attempt(job: &Scheduler, index: usize) -> AttemptId {
    job.execution().tasks().nth(index).unwrap().attempt
}

fn lost(n: u8) -> Lost {
    let Placement { instance, address, .. } = placement(n);
    Lost { id: address.id, instance, cause: format!("TaskManager tm{n} at host lost: no heartbeat for 10 s") }
}

#[test]
fn both_ends_of_a_channel_are_told_the_same_id_and_each_others_address() {
    let (_, commands) = deployed_job();
    let tasks: Vec<_> = commands
        .iter()
        .map(|command| match command {
            Command::Deploy { task, to, .. } => (task, to),
            Command::Cancel { .. } => panic!("{command:?}"),
        })
        .collect();
    let (source, source_at) = &tasks[0];
    assert_eq!((source.name.as_str(), source.inputs.len(), source.outputs.len()), ("Source (1/1)", 0, 1));
    assert_eq!(source.outputs[0].channels.len(), 2);
    for (subtask, (window, window_at)) in tasks[1..].iter().enumerate() {
        let (up, down) = (&source.outputs[0].channels[subtask], &window.inputs[0].channels[0]);
        assert_eq!(up.channel_id, down.channel_id);
        assert_eq!(up.peer.as_ref().unwrap().id, window_at.id.as_str());
        assert_eq!(down.peer.as_ref().unwrap().id, source_at.id.as_str());
    }
    assert_ne!(source.outputs[0].channels[0].channel_id, source.outputs[0].channels[1].channel_id);
    assert_eq!(tasks[1].1.id.as_str(), "tm1", "subtask n of every vertex is in the n-th slot");
    assert_eq!(tasks[2].1.id.as_str(), "tm2");
}

#[test]
fn a_job_is_finished_when_all_its_tasks_are() {
    let (mut job, _) = deployed_job();
    for index in 0..3 {
        assert_eq!(job.state(), JobState::Running);
        assert!(update(&mut job, index, 1, TaskState::Running));
        assert!(update(&mut job, index, 2, TaskState::Finished));
    }
    assert_eq!(job.state(), JobState::Finished);
    let times: Vec<_> = job.timestamps().iter().map(|(state, at)| (*state, *at)).collect();
    assert_eq!(
        times,
        [(JobState::Initializing, 1), (JobState::Created, 2), (JobState::Running, 3), (JobState::Finished, 9)]
    );
}

#[test]
fn repeated_and_late_updates_change_nothing() {
    let (mut job, _) = deployed_job();
    update(&mut job, 0, 2, TaskState::Running);
    assert!(update(&mut job, 0, 1, TaskState::Initializing), "known, but old");
    assert_eq!(states(&job)[0], TaskState::Running);
    let attempt = attempt(&job, 0);
    let update = TaskUpdate {
        attempt,
        sequence: 3,
        state: TaskState::Finished,
        cause: String::new(),
        symptom: false,
        metrics: TaskMetrics::default(),
    };
    assert!(!job.update(9, placement(9).instance, update), "another instance cannot speak for the task");
}

#[test]
fn one_failed_task_cancels_the_others_and_the_job_fails_once_they_have_ended() {
    let (mut job, _) = deployed_job();
    (0..3).for_each(|index| _ = update(&mut job, index, 1, TaskState::Running));
    update(&mut job, 1, 2, TaskState::Failed);
    assert_eq!(job.state(), JobState::Failing);
    assert_eq!(job.take_commands().len(), 2);
    update(&mut job, 0, 2, TaskState::Canceled);
    update(&mut job, 2, 2, TaskState::Failed);
    assert_eq!(job.state(), JobState::Failed);
    let failure = job.failure().unwrap();
    assert_eq!((failure.cause.as_str(), failure.task.as_deref()), ("disk full", Some("Window (1/2)")));
    assert_eq!(states(&job), [TaskState::Canceled, TaskState::Failed, TaskState::Canceled]);
}

#[test]
fn a_lost_task_manager_fails_the_job_with_that_cause() {
    let (mut job, _) = deployed_job();
    (0..3).for_each(|index| _ = update(&mut job, index, 1, TaskState::Running));
    job.lost(8, &lost(2));
    assert_eq!(job.state(), JobState::Failing);
    assert_eq!(job.take_commands().len(), 2, "the survivors are cancelled");
    update(&mut job, 0, 2, TaskState::Canceled);
    update(&mut job, 1, 2, TaskState::Canceled);
    assert_eq!(job.state(), JobState::Failed);
    assert_eq!(job.failure().unwrap().cause, "TaskManager tm2 at host lost: no heartbeat for 10 s");
}

/// The source fails because a neighbour went away, and says so first.
fn job_with_a_symptom() -> Scheduler {
    let (mut job, _) = deployed_job();
    (0..3).for_each(|index| _ = update(&mut job, index, 1, TaskState::Running));
    let update = TaskUpdate {
        attempt: attempt(&job, 0),
        sequence: 2,
        state: TaskState::Failed,
        cause: "the receiver has closed the channel".to_owned(),
        symptom: true,
        metrics: TaskMetrics::default(),
    };
    job.update(8, placement(1).instance, update);
    assert_eq!(job.failure().unwrap().cause, "the receiver has closed the channel");
    job
}

#[test]
fn a_lost_neighbour_explains_a_symptom() {
    let mut job = job_with_a_symptom();
    job.lost(9, &lost(2));
    assert_eq!(job.failure().unwrap().cause, "TaskManager tm2 at host lost: no heartbeat for 10 s");
}

#[test]
fn a_failed_neighbour_explains_a_symptom_and_nothing_explains_a_cause() {
    let mut job = job_with_a_symptom();
    update(&mut job, 2, 2, TaskState::Failed);
    assert_eq!(job.failure().unwrap().cause, "disk full");
    job.lost(9, &lost(1));
    assert_eq!((job.state(), job.failure().unwrap().cause.as_str()), (JobState::Failed, "disk full"));
}

#[test]
fn a_cancel_request_does_not_overtake_the_deployment() {
    let (mut job, _) = deployed_job();
    job.deployed(4, attempt(&job, 0), Ok(()));
    job.cancel(5);
    let cancelled: Vec<_> = job.take_commands();
    assert!(matches!(&cancelled[..], [Command::Cancel { attempt: a, .. }] if *a == attempt(&job, 0)), "{cancelled:?}");
    job.deployed(6, attempt(&job, 1), Ok(()));
    assert!(matches!(&job.take_commands()[..], [Command::Cancel { .. }]));
    job.deployed(6, attempt(&job, 2), Err("refused".to_owned()));
    assert_eq!(job.take_commands(), [], "what never arrived needs no cancelling");
    job.cancel_answered(7, attempt(&job, 0), true);
    job.cancel_answered(7, attempt(&job, 1), false);
    assert_eq!(job.state(), JobState::Cancelling);
    update(&mut job, 0, 1, TaskState::Canceled);
    assert_eq!(job.state(), JobState::Canceled);
    assert!(job.failure().is_none());
}

#[test]
fn waiting_for_slots_ends_by_shortage_or_by_cancel() {
    let blob = BlobAddress { host: "blob".to_owned(), port: 6124 };
    let waiting = || Scheduler::new(JOB, Arc::new(shuffle(1, 2)), blob.clone(), 1, 2);
    let mut short = waiting();
    short.no_slots(3, "NoResourceAvailableException".to_owned());
    assert_eq!(short.state(), JobState::Failed);
    let mut cancelled = waiting();
    cancelled.cancel(3);
    assert_eq!(cancelled.state(), JobState::Canceled);
}

#[test]
fn a_task_missing_from_two_heartbeats_is_gone() {
    let (mut job, _) = deployed_job();
    (0..3).for_each(|index| _ = update(&mut job, index, 1, TaskState::Running));
    let on_first = |job: &Scheduler| {
        let tasks = [0, 1].map(|index| (attempt(job, index), TaskMetrics::default()));
        BTreeMap::from(tasks)
    };
    for round in 0..3 {
        let mut reported = on_first(&job);
        job.reconcile(5, placement(1).instance, &mut reported);
        assert!(reported.is_empty(), "all wanted in round {round}");
    }
    job.reconcile(6, placement(2).instance, &mut BTreeMap::new());
    assert_eq!(job.state(), JobState::Running, "the heartbeat may be older than the task");
    job.reconcile(7, placement(2).instance, &mut BTreeMap::new());
    assert_eq!(job.state(), JobState::Failing);
    let mut reported = on_first(&job);
    job.reconcile(8, placement(1).instance, &mut reported);
    assert_eq!(reported.len(), 2, "a failing job's tasks are unwanted: a lost cancel request is made good");
}
