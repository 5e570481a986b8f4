//! `tidemill local`: a cluster that belongs to the process that started it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{text, tidemill, tool};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn what_is_printed_works_from_any_directory() {
    let local = Local::start(&["-Drest.prot=1"]);
    let list = local.printed(" list --config-dir ");
    let output = Command::new("sh").args(["-c", list]).current_dir("/").output().unwrap();
    assert!(output.status.success() && text(&output.stdout).starts_with("JOB"), "{list}: {}", text(&output.stderr));
    assert!(local.printed("https://localhost:").contains("https://"));
    assert!(local.errors().contains("did you mean `rest.port`?"), "{}", local.errors());
    assert_eq!(local.interrupted().code(), Some(0));
}

#[test]
fn the_task_managers_are_named_and_the_gateway_without_tls_is_http() {
    let local = Local::start(&["-Dsecurity.ssl.internal.enabled=false", "-Dsecurity.ssl.rest.enabled=false"]);
    assert!(local.printed("curl http://localhost:").ends_with("/v1/overview"));
    let status = tidemill(&["tls", "status", "--config-dir", local.config_dir().to_str().unwrap()]);
    let lines = text(&status.stdout);
    for name in ["taskmanager-1 ", "taskmanager-2 "] {
        assert!(lines.lines().any(|line| line.starts_with(name)), "{lines}");
    }
    assert_eq!(local.interrupted().code(), Some(0));
}

#[test]
fn a_second_cluster_in_the_same_directory_is_refused_and_leaves_the_first_alone() {
    let local = Local::start(&[]);
    let before = fs::read(local.config_dir().join("config.yaml")).unwrap();
    let second = tidemill(&["local", "--rest-port", "0", "--dir", local.dir().to_str().unwrap()]);
    let errors = text(&second.stderr);
    assert_eq!((second.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.contains("already used by another cluster"), "{errors}");
    assert_eq!(fs::read(local.config_dir().join("config.yaml")).unwrap(), before);
    assert_eq!(local.interrupted().code(), Some(0));
}

#[test]
fn a_crash_is_still_known_at_the_end() {
    let local = Local::start(&[]);
    signal(local.pid_of("taskmanager-2"), Signal::SIGKILL);
    eventually("the crash is told", || local.errors().contains("taskmanager-2 has ended").then_some(()));
    assert_eq!(local.interrupted().code(), Some(1));
}

#[test]
fn a_cluster_ends_with_its_starter_even_if_that_is_killed() {
    let mut local = Local::start(&[]);
    let pids: Vec<i32> = local.lines.iter().filter_map(|line| pid_in(line)).collect();
    assert_eq!(pids.len(), 5, "{:?}", local.lines);
    assert!(pids.iter().all(|pid| is_running(*pid)));
    local.child.kill().unwrap();
    local.child.wait().unwrap();
    eventually("no process is left", || (!pids.iter().any(|pid| is_running(*pid))).then_some(()));
}

#[test]
fn the_readmes_hand_over_of_trust_works_on_a_running_cluster() {
    if !tool("keytool", "-help") {
        return;
    }
    let local = Local::start(&[]);
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let steps = readme.split("```").find_map(|block| block.strip_prefix("sh\ncd conf/tls\n")).unwrap();
    let (names, steps) = steps.split_once('\n').unwrap();
    let (trust, steps) = steps.split_at(steps.find("mv ").unwrap());
    let (present, forget) = steps.split_at(steps.find("keytool -delete").unwrap());

    // Where README has the stores.
    fs::create_dir(local.scratch.path().join("conf")).unwrap();
    symlink(local.dir().join("tls"), local.scratch.path().join("conf/tls")).unwrap();
    let run = |script: &str| {
        let mut sh = Command::new("sh");
        let output = sh
            .args(["-euc", &format!("{names}\n{script}")])
            .current_dir(local.scratch.path().join("conf/tls"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {} {}", text(&output.stdout), text(&output.stderr));
    };
    let first = eventually("all report", || local.internal_certificates_at(1));
    run(trust);
    let trusting = eventually("all trust the next certificate", || local.internal_certificates_at(2));
    assert_eq!(trusting, first, "nobody is to present it yet");
    run(present);
    let presenting = eventually("all present the next certificate", || local.internal_certificates_at(3));
    assert!(presenting.is_disjoint(&first));
    run(forget);
    let only = eventually("all have forgotten the old certificate", || local.internal_certificates_at(4));
    assert_eq!(only, presenting);

    let script = local.scratch.path().join("count.sql");
    fs::write(&script, COUNT).unwrap();
    let conf = local.config_dir();
    let (script, conf) = (script.to_str().unwrap(), conf.to_str().unwrap());
    let output = tidemill(&["run", script, "--wait", "--parallelism", "4", "--config-dir", conf]);
    assert!(text(&output.stdout).ends_with("FINISHED\n"), "{}", text(&output.stderr));
    let all_report = || Some(local.endpoints()).filter(|endpoints| !endpoints.is_empty());
    for endpoint in eventually("all report", all_report) {
        let (failed, refused) = (&endpoint["failed_handshakes"], &endpoint["refused_connects"]);
        assert_eq!((failed, refused), (&0.into(), &0.into()), "{endpoint}");
    }
}

/// Its exchange goes over the data plane.
const COUNT: &str = "
    CREATE TABLE numbers (n BIGINT, ts TIMESTAMP(3)) WITH (
      'connector' = 'datagen', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '9999',
      'fields.ts.kind' = 'sequence', 'fields.ts.start' = '2024-01-01 00:00:00',
      'watermark.column' = 'ts', 'watermark.delay' = '0 s'
    );
    CREATE TABLE counts (start TIMESTAMP(3), r BIGINT, numbers BIGINT) WITH ('connector' = 'blackhole');
    INSERT INTO counts SELECT tumble(ts, INTERVAL '1 second'), n % 7, count(*)
    FROM numbers GROUP BY tumble(ts, INTERVAL '1 second'), n % 7;";

/// A cluster in a directory of its own. Dropping it kills its starter, and with that all of it.
struct Local {
    child: Child,
    /// What it has printed.
    lines: Vec<String>,
    scratch: TempDir,
}

impl Local {
    fn start(options: &[&str]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut local = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        local.args(["local", "--rest-port", "0", "--dir"]).arg(scratch.path().join("cluster")).args(options);
        local.stdin(Stdio::null()).stdout(Stdio::piped());
        local.stderr(File::create(scratch.path().join("errors")).unwrap());
        let mut child = local.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut local = Self { child, lines: Vec::new(), scratch };
        for line in output.lines().map(Result::unwrap) {
            let is_last = line.starts_with("logs in ");
            local.lines.push(line);
            if is_last {
                return local;
            }
        }
        panic!("it did not start: {}", local.errors());
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("cluster")
    }

    fn config_dir(&self) -> PathBuf {
        self.dir().join("conf")
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.scratch.path().join("errors")).unwrap()
    }

    /// The line with this text.
    fn printed(&self, part: &str) -> &str {
        let found = self.lines.iter().find(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no {part:?} in {:?}", self.lines)).trim()
    }

    /// What all processes say about their endpoints; nothing until all five do.
    fn endpoints(&self) -> Vec<Value> {
        let status = tidemill(&["tls", "status", "--json", "--config-dir", self.config_dir().to_str().unwrap()]);
        let report: Value = serde_json::from_slice(&status.stdout).unwrap();
        let endpoints = report["processes"].as_array().unwrap().iter().map(|process| process["endpoints"].as_array());
        let endpoints: Vec<_> = endpoints.flatten().filter(|endpoints| !endpoints.is_empty()).collect();
        if endpoints.len() == 5 { endpoints.into_iter().flatten().cloned().collect() } else { Vec::new() }
    }

    /// The certificates that are presented, if everybody is at this generation of the internal bundle.
    fn internal_certificates_at(&self, generation: u64) -> Option<BTreeSet<String>> {
        let endpoints = self.endpoints();
        let bundles = endpoints.iter().map(|endpoint| &endpoint["bundle"]);
        let bundles: Vec<_> = bundles.filter(|bundle| bundle["bundle"] == "internal").collect();
        let all = !bundles.is_empty() && bundles.iter().all(|bundle| bundle["generation"] == generation);
        all.then(|| bundles.iter().map(|bundle| bundle["fingerprint"].as_str().unwrap().to_owned()).collect())
    }

    fn pid_of(&self, process: &str) -> i32 {
        pid_in(self.printed(process)).unwrap()
    }

    /// What becomes of it after Ctrl-C.
    fn interrupted(mut self) -> ExitStatus {
        signal(i32::try_from(self.child.id()).unwrap(), Signal::SIGINT);
        self.child.wait().unwrap()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `jobmanager       pid 4711`
fn pid_in(line: &str) -> Option<i32> {
    line.split_once(" pid ")?.1.parse().ok()
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Not gone, and not dead with a parent that does not look: `pid (name) state ...`.
fn is_running(pid: i32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// Looks again until it is there; the bound only ends a test that has failed.
fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        sleep(Duration::from_millis(20));
    }
}
