//! Takes jobs in: fetches the script from the blob server, plans it (the engine does that on a thread of its own), and
//! hands the plan to the cluster.

pub mod jobs;
pub mod scripts;

use std::sync::Arc;

use blob_server::BlobError;
use proto::blob::Digest;
use proto::ids::JobId;
use tokio::sync::Semaphore;

use jobs::Refused;
use scripts::Scripts;

use crate::clock::Now;
use crate::driver::Driver;
use crate::job_master::plan::{InvalidPlan, JobPlan};

/// Scripts fetched and planned at once; further ones wait.
const PLANS_AT_ONCE: usize = 4;

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
        let plan = plan(&text, &name, sql_sha256, parallelism).await;
        drop(permit);
        let taken =
            plan.and_then(|plan| Ok(self.driver.apply(|cluster, now| cluster.submit(now, job, plan, submitted_ms))?));
        drop(in_use);
        if taken.is_err() {
            // Nobody will ask for it again under this job.
            self.driver.delete_script(&script).await;
        }
        taken
    }
}

async fn plan(text: &[u8], name: &str, sql_sha256: String, parallelism: usize) -> Result<JobPlan, SubmitError> {
    let sql = std::str::from_utf8(text).map_err(|_| SubmitError::NotText)?;
    let graph = engine::plan(sql, &engine::PlanOptions { parallelism }).await?;
    Ok(JobPlan::new(&graph, name, sql_sha256, parallelism)?)
}
