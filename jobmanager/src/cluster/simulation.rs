//! A whole cluster without a network: random TaskManagers, jobs, lost requests, lost answers and deaths, in any order.
//! First chaos, with the invariants checked after every step; then everything works again, and every job must come to
//! an end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use proto::v1::{JobState, TaskState};
use tokio::time::Instant;

use super::*;
use crate::job_master::plan::tests::shuffle;
use crate::resource_manager::registry::Registration;
use crate::resource_manager::registry::tests::introduction;

const MANAGERS: u8 = 3;
const SLOTS: u32 = 2;
/// Fewer than there are jobs.
const SCRIPTS: usize = 3;
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
const SLOT_REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Arrives,
    RequestLost,
    AnswerLost,
}

#[derive(Debug, Clone)]
enum Step {
    Submit {
        job: u8,
        parallelism: usize,
    },
    Cancel {
        job: u8,
    },
    Start {
        manager: u8,
    },
    Kill {
        manager: u8,
    },
    Leave {
        manager: u8,
    },
    Heartbeat {
        manager: u8,
        fate: Fate,
    },
    /// The n-th call under way is answered.
    Call {
        nth: usize,
        fate: Fate,
    },
    /// The n-th task of a TaskManager does something.
    Work {
        manager: u8,
        nth: usize,
        fails: bool,
    },
    /// The n-th task of a TaskManager reports.
    Report {
        manager: u8,
        nth: usize,
        fate: Fate,
    },
    Wait {
        seconds: u64,
    },
    /// The JobManager does not run for a while, and ticks before anything else when it does again.
    Stall {
        seconds: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = || prop_oneof![6 => Just(Fate::Arrives), 1 => Just(Fate::RequestLost), 1 => Just(Fate::AnswerLost)];
    let manager = || 0..MANAGERS;
    let step = prop_oneof![
        2 => (0..20u8, 1..5usize).prop_map(|(job, parallelism)| Step::Submit { job, parallelism }),
        1 => (0..20u8).prop_map(|job| Step::Cancel { job }),
        3 => manager().prop_map(|manager| Step::Start { manager }),
        1 => manager().prop_map(|manager| Step::Kill { manager }),
        1 => manager().prop_map(|manager| Step::Leave { manager }),
        4 => (manager(), fate()).prop_map(|(manager, fate)| Step::Heartbeat { manager, fate }),
        8 => (any::<usize>(), fate()).prop_map(|(nth, fate)| Step::Call { nth, fate }),
        8 => (manager(), any::<usize>(), prop::bool::weighted(0.1)).prop_map(|(manager, nth, fails)| Step::Work { manager, nth, fails }),
        8 => (manager(), any::<usize>(), fate()).prop_map(|(manager, nth, fate)| Step::Report { manager, nth, fate }),
        2 => (0..8u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => (1..60u64).prop_map(|seconds| Step::Stall { seconds }),
    ];
    prop::collection::vec(step, 0..150)
}

/// A TaskManager as the JobManager sees it.
#[derive(Debug, Default)]
struct Manager {
    /// `None`: no process.
    instance: Option<InstanceId>,
    tasks: BTreeMap<AttemptId, Task>,
}

#[derive(Debug)]
struct Task {
    job: JobId,
    slot: u32,
    state: TaskState,
    sequence: u64,
    canceled: bool,
}

struct World {
    cluster: Cluster,
    now: Now,
    managers: Vec<Manager>,
    calls: Vec<scheduler::Command>,
    incarnations: u64,
    last_state: HashMap<JobId, JobState>,
    /// Scripts of jobs that were taken, until they are deleted.
    stored: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        let options = ClusterOptions {
            heartbeat_timeout: HEARTBEAT_TIMEOUT,
            slot_request_timeout: SLOT_REQUEST_TIMEOUT,
            jobs: JobLimits { active_max: 4, ended_max: 2 },
            blob: BlobAddress { host: "blob".to_owned(), port: 1 },
        };
        let (mut cluster, now) = (Cluster::new(options), Now { instant: Instant::now(), unix_ms: 0 });
        cluster.tick(now);
        Self {
            cluster,
            now,
            managers: (0..MANAGERS).map(|_| Manager::default()).collect(),
            calls: Vec::new(),
            incarnations: 0,
            last_state: HashMap::new(),
            stored: BTreeSet::new(),
        }
    }

    fn id(manager: u8) -> TaskManagerId {
        format!("tm{manager}").parse().unwrap()
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Submit { job, parallelism } => {
                let job = JobId::from_bytes([job; 16]);
                let forgotten = self.last_state.contains_key(&job) && self.cluster.jobs().get(job).is_none();
                // Ids are random: one that has been forgotten does not come again.
                if !forgotten {
                    let mut plan = shuffle(1, parallelism);
                    plan.sql_sha256 = (parallelism % SCRIPTS).to_string().repeat(64);
                    let script = plan.sql_sha256.clone();
                    if self.cluster.submit(now, job, plan.validate().unwrap(), now.unix_ms).is_ok() {
                        self.stored.insert(script);
                    }
                }
            }
            Step::Cancel { job } => _ = self.cluster.cancel(now, JobId::from_bytes([job; 16])),
            Step::Start { manager } => self.start(manager),
            Step::Kill { manager } => self.managers[usize::from(manager)] = Manager::default(),
            Step::Leave { manager } => {
                if let Some(instance) = std::mem::take(&mut self.managers[usize::from(manager)]).instance {
                    self.cluster.unregister(now, &Self::id(manager), instance, "it shut down");
                }
            }
            Step::Heartbeat { manager, fate } => self.heartbeat(manager, fate),
            Step::Call { nth, fate } => {
                if !self.calls.is_empty() {
                    let call = self.calls.swap_remove(nth % self.calls.len());
                    self.call(call, fate);
                }
            }
            Step::Work { manager, nth, fails } => {
                let tasks = &mut self.managers[usize::from(manager)].tasks;
                if !tasks.is_empty() {
                    let nth = nth % tasks.len();
                    tasks.values_mut().nth(nth).unwrap().work(fails);
                }
            }
            Step::Report { manager, nth, fate } => {
                let tasks = &self.managers[usize::from(manager)].tasks;
                if !tasks.is_empty() {
                    let attempt = *tasks.keys().nth(nth % tasks.len()).unwrap();
                    self.report(manager, attempt, fate);
                }
            }
            Step::Wait { seconds } => {
                for _ in 0..seconds * 10 {
                    self.pass(TICK);
                }
            }
            Step::Stall { seconds } => {
                // Who would be given up by the next tick anyhow, may.
                let heard = |known: &&Registration| known.silence(now) + TICK < HEARTBEAT_TIMEOUT;
                let heard = self.cluster.registry().iter().filter(heard);
                let heard: Vec<_> = heard.map(|known| known.instance).collect();
                self.pass(Duration::from_secs(seconds));
                let is_there = |instance: &InstanceId| self.cluster.registry().by_instance(*instance).is_some();
                assert!(heard.iter().all(is_there), "given up for an absence of the JobManager");
            }
        }
        for command in self.cluster.take_commands() {
            match command {
                Command::Call(call) => self.calls.push(call),
                Command::DeleteScript(script) => {
                    assert!(!self.cluster.jobs().has_script(&script), "a job still has {script}");
                    self.stored.remove(&script);
                }
                Command::Forget(_) => {}
            }
        }
        self.check();
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.unix_ms += i64::try_from(time.as_millis()).unwrap();
        self.cluster.tick(self.now);
    }

    /// A new process, or the present one again (its earlier tasks are gone in both cases).
    fn start(&mut self, manager: u8) {
        self.incarnations += 1;
        let fresh = InstanceId::from_bytes(u128::from(self.incarnations).to_le_bytes());
        let who = introduction(Self::id(manager).as_str(), &self.incarnations.to_string(), SLOTS);
        let instance = self.cluster.register(self.now, who, fresh);
        self.managers[usize::from(manager)] = Manager { instance: Some(instance), tasks: BTreeMap::new() };
    }

    fn heartbeat(&mut self, manager: u8, fate: Fate) {
        let Manager { instance: Some(instance), tasks } = &mut self.managers[usize::from(manager)] else { return };
        if fate == Fate::RequestLost {
            return;
        }
        let reported = tasks.keys().map(|attempt| (*attempt, TaskMetrics::default())).collect();
        let answer = self.cluster.heartbeat(self.now, &Self::id(manager), *instance, Report::default(), reported);
        match answer {
            _ if fate == Fate::AnswerLost => {}
            HeartbeatAnswer::Known { unwanted } => {
                for attempt in unwanted {
                    tasks.get_mut(&attempt).unwrap().canceled = true;
                }
            }
            HeartbeatAnswer::Unknown => self.start(manager),
        }
    }

    fn manager_of(&mut self, instance: InstanceId) -> Option<&mut Manager> {
        self.managers.iter_mut().find(|manager| manager.instance == Some(instance))
    }

    fn call(&mut self, call: scheduler::Command, fate: Fate) {
        let now = self.now;
        match call {
            scheduler::Command::Deploy { job, attempt, instance, task, .. } => {
                let arrived = fate != Fate::RequestLost;
                let answer = match self.manager_of(instance).filter(|_| arrived) {
                    None => Err("unreachable".to_owned()),
                    Some(manager)
                        if manager.tasks.values().any(|other| other.slot == task.slot && other.job != job) =>
                    {
                        Err("the slot belongs to another job".to_owned())
                    }
                    Some(manager) => {
                        let fresh =
                            Task { job, slot: task.slot, state: TaskState::Initializing, sequence: 1, canceled: false };
                        manager.tasks.insert(attempt, fresh);
                        Ok(())
                    }
                };
                let answer = if fate == Fate::AnswerLost { Err("no answer".to_owned()) } else { answer };
                self.cluster.deployed(now, job, attempt, answer);
            }
            scheduler::Command::Cancel { job, attempt, instance, .. } => {
                let known = match self.manager_of(instance) {
                    Some(manager) if fate != Fate::RequestLost => {
                        let task = manager.tasks.get_mut(&attempt);
                        Some(task.map(|task| task.canceled = true).is_some())
                    }
                    _ => None,
                };
                match known {
                    Some(known) if fate == Fate::Arrives => self.cluster.cancel_answered(now, job, attempt, known),
                    _ => self.cluster.note_unreachable(instance, "unreachable"),
                }
            }
        }
    }

    fn report(&mut self, manager: u8, attempt: AttemptId, fate: Fate) {
        let Manager { instance: Some(instance), tasks } = &mut self.managers[usize::from(manager)] else { return };
        let task = &tasks[&attempt];
        let update = TaskUpdate {
            attempt,
            sequence: task.sequence,
            state: task.state,
            cause: "it was told to".to_owned(),
            symptom: task.sequence % 2 == 0,
            metrics: TaskMetrics::default(),
        };
        if fate == Fate::RequestLost {
            return;
        }
        let known = self.cluster.update_task(self.now, task.job, *instance, update);
        if fate == Fate::Arrives {
            if task.state.is_terminal() {
                tasks.remove(&attempt);
            } else if !known {
                tasks.get_mut(&attempt).unwrap().canceled = true;
            }
        }
    }

    /// What must hold at any time.
    fn check(&mut self) {
        let mut held: HashMap<(InstanceId, u32), JobId> = HashMap::new();
        let mut active = 0;
        for (job, scheduler) in self.cluster.jobs().newest_first() {
            let state = scheduler.state();
            if let Some(last) = self.last_state.insert(job, state) {
                assert!(last == state || !last.is_terminal(), "{job} went from {last:?} to {state:?}");
            }
            assert_eq!(
                state.is_terminal(),
                matches!(state, JobState::Failed | JobState::Canceled | JobState::Finished)
            );
            let ended = scheduler.execution().has_ended();
            assert_eq!(state.is_terminal(), ended, "{job} is {state:?}, all tasks ended: {ended}");
            assert_eq!(scheduler.failure().is_some(), matches!(state, JobState::Failing | JobState::Failed));
            if state == JobState::Finished {
                assert!(scheduler.execution().tasks().all(|task| task.state == TaskState::Finished));
            }
            if state.is_terminal() {
                continue;
            }
            active += 1;
            for placement in scheduler.execution().tasks().filter_map(|task| task.placement.as_ref()) {
                let holder = *held.entry((placement.instance, placement.slot)).or_insert(job);
                assert_eq!(holder, job, "two jobs in one slot");
            }
        }
        assert!(active <= 4);
        assert!(self.stored.iter().all(|script| self.cluster.jobs().has_script(script)), "left behind");
        let slots = self.cluster.slots();
        let there = |instance: InstanceId| self.cluster.registry().by_instance(instance).is_some();
        let held_now = held.keys().filter(|(instance, _)| there(*instance)).count();
        assert_eq!(slots.free() + held_now, slots.total());
        assert_eq!(slots.total(), self.cluster.registry().iter().count() * SLOTS as usize);
        assert!(slots.holders().iter().all(|job| !self.last_state[job].is_terminal()));
    }

    /// Everything works: calls arrive, TaskManagers are there, work is done.
    fn heal(&mut self) {
        for manager in 0..MANAGERS {
            if self.managers[usize::from(manager)].instance.is_none() {
                self.step(Step::Start { manager });
            }
        }
        // Longer than every time limit together, at one round a second.
        for _ in 0..60 {
            while !self.calls.is_empty() {
                self.step(Step::Call { nth: 0, fate: Fate::Arrives });
            }
            for manager in 0..MANAGERS {
                for _ in 0..2 {
                    let attempts: Vec<_> = self.managers[usize::from(manager)].tasks.keys().copied().collect();
                    for nth in 0..attempts.len() {
                        self.step(Step::Work { manager, nth, fails: false });
                    }
                    for attempt in attempts {
                        if self.managers[usize::from(manager)].tasks.contains_key(&attempt) {
                            self.report(manager, attempt, Fate::Arrives);
                        }
                    }
                }
                self.step(Step::Heartbeat { manager, fate: Fate::Arrives });
            }
            self.step(Step::Wait { seconds: 1 });
        }
    }
}

impl Task {
    fn work(&mut self, fails: bool) {
        if self.state.is_terminal() {
            return;
        }
        self.sequence += 1;
        self.state = match self.state {
            _ if self.canceled => TaskState::Canceled,
            _ if fails => TaskState::Failed,
            TaskState::Initializing => TaskState::Running,
            _ => TaskState::Finished,
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_no_slot_is_held_twice_and_every_job_comes_to_an_end(steps in steps()) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        world.heal();
        for (job, scheduler) in world.cluster.jobs().newest_first() {
            prop_assert!(scheduler.state().is_terminal(), "{job} is stuck: {scheduler:?}");
        }
        prop_assert_eq!(world.cluster.slots().free(), world.cluster.slots().total());
        prop_assert!(world.managers.iter().all(|manager| manager.tasks.is_empty()), "orphans: {:?}", world.managers);
    }
}

#[test]
fn a_job_manager_that_is_always_slow_still_notices_who_is_silent_and_what_has_waited_too_long() {
    let mut world = World::new();
    world.step(Step::Start { manager: 0 });
    world.step(Step::Submit { job: 0, parallelism: 4 });
    for _ in 0..300 {
        world.pass(2 * ABSENCE);
    }
    assert_eq!(world.cluster.registry().iter().count(), 0);
    assert_eq!(world.cluster.jobs().active_ids(), []);
}

#[test]
fn a_request_for_slots_does_not_expire_while_the_job_manager_is_away() {
    let mut world = World::new();
    world.step(Step::Submit { job: 0, parallelism: 1 });
    world.step(Step::Wait { seconds: SLOT_REQUEST_TIMEOUT.as_secs() - 1 });
    world.step(Step::Stall { seconds: 3_600 });
    assert_eq!(world.cluster.jobs().active_ids().len(), 1);
    world.step(Step::Wait { seconds: 1 });
    assert_eq!(world.cluster.jobs().active_ids(), []);
}
