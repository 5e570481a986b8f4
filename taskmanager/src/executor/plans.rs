//! Scripts, fetched from the blob server and planned: once per script and parallelism, however many tasks of it run
//! here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use blob_server::{BlobClient, BlobError};
use engine::{JobGraph, PlanError, PlanOptions};
use tls_common::Connector;
use tokio::sync::OnceCell;

use super::deployment::Script;

/// Plans that are kept; the one made first goes first.
const PLANS_MAX: usize = 64;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The blob server's, or the network's.
    #[error("cannot fetch the script: {0}")]
    Blob(#[from] BlobError),
    /// Somebody's who stored something else than a script.
    #[error("the script is not UTF-8 text")]
    NotText,
    /// The JobManager planned it, so most likely it runs another release.
    #[error("cannot plan the script: {0}")]
    Plan(#[from] PlanError),
}

/// The plans of this process. Clones are the same.
#[derive(Debug, Clone)]
pub struct Plans {
    blob: Connector,
    /// The newest last.
    kept: Arc<Mutex<VecDeque<(Script, Plan)>>>,
}

type Plan = Arc<OnceCell<Arc<JobGraph>>>;

impl Plans {
    /// The connector must offer the blob protocol.
    pub fn new(blob: Connector) -> Self {
        Self { blob, kept: Arc::default() }
    }

    /// The script's plan. Those who ask while it is being made wait for it; a failure is not kept.
    pub async fn get(&self, script: &Script) -> Result<Arc<JobGraph>, ScriptError> {
        let plan = self.entry(script);
        let graph = plan.get_or_try_init(|| self.make(script)).await?;
        Ok(Arc::clone(graph))
    }

    fn entry(&self, script: &Script) -> Plan {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plan)) = kept.iter().find(|(known, _)| known == script) {
            return Arc::clone(plan);
        }
        if kept.len() == PLANS_MAX {
            kept.pop_front();
        }
        let plan = Plan::default();
        kept.push_back((script.clone(), Arc::clone(&plan)));
        plan
    }

    async fn make(&self, script: &Script) -> Result<Arc<JobGraph>, ScriptError> {
        let blob = BlobClient::new(self.blob.clone(), script.blob_host.clone(), script.blob_port);
        let text = blob.get(&script.digest).await?;
        let sql = std::str::from_utf8(&text).map_err(|_| ScriptError::NotText)?;
        Ok(Arc::new(engine::plan(sql, &PlanOptions { parallelism: script.parallelism }).await?))
    }
}
