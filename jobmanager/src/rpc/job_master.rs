//! `JobMaster`: TaskManagers report what became of their tasks.

use proto::v1;
use proto::v1::TaskState;
use proto::v1::job_master_server::JobMaster;
use tonic::{Request, Response, Status};

use super::id;
use crate::driver::Driver;
use crate::job_master::scheduler::TaskUpdate;

/// Longest cause of a failure that is kept, in characters.
const CAUSE_CHARS_MAX: usize = 16 * 1024;

/// See the module's documentation.
#[derive(Debug)]
pub struct Service {
    driver: Driver,
}

impl Service {
    pub fn new(driver: Driver) -> Self {
        Self { driver }
    }
}

#[tonic::async_trait]
impl JobMaster for Service {
    async fn update_task_state(
        &self,
        request: Request<v1::UpdateTaskStateRequest>,
    ) -> Result<Response<v1::UpdateTaskStateResponse>, Status> {
        let request = request.into_inner();
        let (job, instance) = (id(&request.job_id)?, id(&request.instance_id)?);
        let state = request.state();
        if !matches!(state, TaskState::Initializing | TaskState::Running) && !state.is_terminal() {
            return Err(Status::invalid_argument(format!("a TaskManager does not report {}", state.name())));
        }
        let update = TaskUpdate {
            attempt: id(&request.attempt_id)?,
            sequence: request.sequence,
            state,
            cause: request.cause.chars().take(CAUSE_CHARS_MAX).collect(),
            symptom: request.symptom,
            metrics: request.metrics.unwrap_or_default(),
        };
        let known = self.driver.apply(|cluster, now| cluster.update_task(now, job, instance, update));
        Ok(Response::new(v1::UpdateTaskStateResponse { known }))
    }
}
