//! Takes jobs in: fetches the script from the blob server, plans it (the engine does that on a thread of its own), and
//! hands the plan to the cluster.

pub mod jobs;
pub mod scripts;

use std::sync::Arc;
use std::time::Duration;

use blob_server::BlobError;
use proto::blob::Digest;
use proto::ids::JobId;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use jobs::Refused;
use scripts::Scripts;

use crate::clock::Now;
use crate::driver::Driver;
use crate::job_master::plan::{InvalidPlan, JobPlan};

/// Scripts fetched and planned at once; further ones wait.
const PLANS_AT_ONCE: usize = 4;

/// How long a script may be planned, and kept from being deleted meanwhile.
const PLAN_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest name of a job, in bytes.
const NAME_BYTES_MAX: usize = 1_024;

/// A job as the gateway hands it in.
#[derive(Debug, Clone)]
pub struct Submission {
    pub job: JobId,
    /// Empty: the planner names it.
    pub name: String,
    /// The script's name in the blob server.
    pub script: Digest,
    pub parallelism: Option<usize>,
}

/// Why a job was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The submitter's: the script has to be stored first.
    #[error("the blob server has no script {0}")]
    ScriptMissing(Digest),
    /// The submitter's.
    #[error("the script is not UTF-8 text")]
    NotText,
    /// The submitter's.
    #[error("the job's name is longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// The submitter's: the planner says what it does not understand.
    #[error(transparent)]
    Script(#[from] engine::PlanError),
    /// The submitter's, if the job is too large.
    #[error(transparent)]
    Plan(#[from] InvalidPlan),
    /// The submitter's, if the script is huge; nobody's, if this machine is busy.
    #[error("the script was not planned within {} s: simplify it, or try again when less is going on", PLAN_TIMEOUT.as_secs())]
    PlanTimeout,
    /// The blob server's, or the network's.
    #[error("cannot fetch the script: {0}")]
    Blob(BlobError),
    /// The submitter's, if the id is taken; nobody's, if there are too many jobs.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// See the module's documentation. Clones are the same.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    driver: Driver,
    scripts: Scripts,
    default_parallelism: usize,
    planning: Arc<Semaphore>,
}

impl Dispatcher {
    pub fn new(driver: Driver, scripts: Scripts, default_parallelism: usize) -> Self {
        Self { driver, scripts, default_parallelism, planning: Arc::new(Semaphore::new(PLANS_AT_ONCE)) }
    }

    /// Takes the job, or says why not. Repeating a submission that was taken changes nothing.
    pub async fn submit(&self, submission: Submission) -> Result<(), SubmitError> {
        let script = submission.script;
        let taken = self.take_in(submission).await;
        if taken.as_ref().is_err_and(|error| !matches!(error, SubmitError::ScriptMissing(_))) {
            // Nobody will ask for it again under this job. Who does so under another one stores it first.
            self.driver.delete_script(script);
        }
        taken
    }

    async fn take_in(&self, submission: Submission) -> Result<(), SubmitError> {
        let Submission { job, name, script, parallelism } = submission;
        if name.len() > NAME_BYTES_MAX {
            return Err(SubmitError::NameTooLong);
        }
        let submitted_ms = Now::read().unix_ms;
        let sql_sha256 = script.to_string();
        if self.driver.read(|cluster, _| cluster.jobs().is_known(job, &sql_sha256))? {
            return Ok(());
        }
        // Closed only if dropped, which `self` prevents.
        let permit = self.planning.acquire().await;
        let (text, in_use) = self.scripts.fetch(&script).await.map_err(|error| match error {
            BlobError::NotFound(digest) => SubmitError::ScriptMissing(digest),
            error => SubmitError::Blob(error),
        })?;
        let parallelism = parallelism.unwrap_or(self.default_parallelism);
        let plan = timeout(PLAN_TIMEOUT, plan(&text, &name, sql_sha256, parallelism)).await;
        drop(permit);
        let plan = plan.map_err(|_| SubmitError::PlanTimeout)??;
        self.driver.apply(|cluster, now| cluster.submit(now, job, plan, submitted_ms))?;
        // The job has it.
        drop(in_use);
        Ok(())
    }
}

async fn plan(text: &[u8], name: &str, sql_sha256: String, parallelism: usize) -> Result<JobPlan, SubmitError> {
    let sql = std::str::from_utf8(text).map_err(|_| SubmitError::NotText)?;
    let graph = engine::plan(sql, &engine::PlanOptions { parallelism }).await?;
    Ok(JobPlan::new(&graph, name, sql_sha256, parallelism)?)
}
