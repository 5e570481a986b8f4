//! What people do from outside the containers: ask with curl, and run jobs whose result is known.

use std::fs;
use std::path::Path;
use std::process::Command;

use integration_tests::{Count, eventually};
use serde_json::{Value, json};

use super::engine::docker;
use super::project::{Door, Project};

/// A job whose rows cross from one TaskManager to the other and whose result is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) name: &'static str,
    pub(super) rows: u64,
    pub(super) per_second: Option<u64>,
}

impl Job {
    fn sink(self) -> String {
        format!("/opt/tidemill/data/{}", self.name)
    }

    pub(super) fn sql(self) -> String {
        let pace = self.per_second.map(|rows| format!(", 'rows-per-second' = '{rows}'")).unwrap_or_default();
        Count { rows: self.rows }.generated(&pace, Path::new(&self.sink()))
    }
}

impl Project {
    /// Asks with curl, from this machine.
    pub(super) fn try_get(&self, path: &str) -> Result<Value, String> {
        self.curl(&[], path)
    }

    pub(super) fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap()
    }

    fn curl(&self, more: &[&str], path: &str) -> Result<Value, String> {
        let Door { url, ca } = self.door();
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "30", "--cacert"]).arg(ca);
        let output = command.args(more).arg(format!("{url}{path}")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{said} {}", String::from_utf8_lossy(&output.stderr)));
        }
        serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))
    }

    /// Submits a script with curl; the job's id, or the answer.
    pub(super) fn try_submit(&self, sql: &str) -> Result<String, String> {
        let body = self.scratch.path().join("job.json");
        fs::write(&body, json!({ "sql": sql, "parallelism": 2 }).to_string()).unwrap();
        let data = format!("@{}", body.display());
        let answer = self.curl(&["--header", "content-type: application/json", "--data", &data], "/v1/jobs/sql")?;
        Ok(answer["jobid"].as_str().ok_or(answer.to_string())?.to_owned())
    }

    /// Connections of the data plane that were lost, or moved, and made anew, as all TaskManagers count them.
    pub(super) fn reconnects(&self, task_managers: &[String]) -> u64 {
        let usage = |id: &String| self.get(&format!("/v1/taskmanagers/{id}/usage"));
        let lost = |usage: Value| {
            let peers = usage["shuffle"]["peers"].as_object().cloned().unwrap_or_default();
            peers.values().filter_map(|peer| peer["reconnects"].as_u64()).sum::<u64>()
        };
        task_managers.iter().map(usage).map(lost).sum()
    }

    /// Waits until the JobManager has heard nothing of one of its TaskManagers for `silence` milliseconds.
    pub(super) async fn misses_one(&self, silence: i64) {
        eventually("a TaskManager is silent", async || {
            let answer = self.try_get("/v1/taskmanagers")?;
            let heard = answer["taskmanagers"].as_array().unwrap().iter();
            let heard: Vec<i64> = heard.filter_map(|manager| manager["timeSinceLastHeartbeat"].as_i64()).collect();
            let (first, last) = (heard.iter().min().copied(), heard.iter().max().copied());
            let apart = last.zip(first).map_or(0, |(last, first)| last - first);
            if apart >= silence { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
    }

    /// Starts a job of so many rows, at this pace if any, and returns its id once it runs.
    pub(super) async fn starts(&self, job: Job) -> String {
        let id = self.try_submit(&job.sql()).unwrap();
        self.job_until(&id, |state| state != "CREATED" && state != "INITIALIZING").await;
        id
    }

    /// Waits for the state that is `wanted` and returns it.
    pub(super) async fn job_until(&self, id: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(&format!("job {id} is as awaited"), async || {
            let state = self.try_get(&format!("/v1/jobs/{id}"))?["state"].as_str().unwrap_or_default().to_owned();
            if wanted(&state) { Ok(state) } else { Err(state) }
        })
        .await
    }

    /// Waits until rows have crossed.
    pub(super) async fn moves_rows(&self, id: &str) {
        eventually(&format!("rows of job {id} move"), async || {
            let details = self.try_get(&format!("/v1/jobs/{id}"))?;
            let read = details["vertices"].as_array().and_then(|vertices| vertices.last());
            let read = read.and_then(|vertex| vertex["metrics"]["read-records"].as_u64()).unwrap_or(0);
            if read > 0 { Ok(()) } else { Err(details.to_string()) }
        })
        .await;
    }

    /// Waits for the job's end, whatever it is.
    pub(super) async fn ends(&self, id: &str) -> String {
        self.job_until(id, |state| ["FINISHED", "FAILED", "CANCELED"].contains(&state)).await
    }

    /// Why it failed.
    pub(super) fn cause(&self, id: &str) -> String {
        self.get(&format!("/v1/jobs/{id}/exceptions"))["exceptionHistory"]["entries"].to_string()
    }

    /// Waits for the job's end, and checks every row of its result.
    pub(super) async fn ends_exact(&self, id: &str, job: Job) {
        assert_eq!(self.ends(id).await, "FINISHED", "{}", self.cause(id));
        let target = self.scratch.path().join(job.name);
        let source = format!("{}:{}", self.container("jobmanager"), job.sink());
        docker(&["cp", &source, target.to_str().unwrap()]);
        Count { rows: job.rows }.assert_exact(&target);
    }

    /// Waits until the JobManager knows this many TaskManagers; their ids.
    pub(super) async fn has_task_managers(&self, number: usize) -> Vec<String> {
        eventually(&format!("{number} TaskManagers are registered"), async || {
            let answer = self.try_get("/v1/taskmanagers")?;
            let managers = answer["taskmanagers"].as_array().cloned().unwrap_or_default();
            if managers.len() != number {
                return Err(answer.to_string());
            }
            Ok(managers.iter().map(|manager| manager["id"].as_str().unwrap().to_owned()).collect())
        })
        .await
    }

    /// Runs a short job and checks its result.
    pub(super) async fn runs_a_job(&self, name: &'static str) {
        let job = Job { name, rows: 20_000, per_second: None };
        let id = self.starts(job).await;
        self.ends_exact(&id, job).await;
    }
}
