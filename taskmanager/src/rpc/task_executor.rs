//! `TaskExecutor`: the JobManager hands tasks over and cancels them.

use std::str::FromStr;

use proto::ids::{InvalidId, TaskManagerId};
use proto::v1;
use proto::v1::task_executor_server::TaskExecutor;
use tonic::{Request, Response, Status};

use crate::executor::deployment::Deployment;
use crate::executor::table::NotAdmitted;
use crate::executor::{Executor, SubmitError};

/// See the module's documentation.
#[derive(Debug)]
pub struct Service {
    own: TaskManagerId,
    executor: Executor,
}

impl Service {
    pub fn new(own: TaskManagerId, executor: Executor) -> Self {
        Self { own, executor }
    }
}

#[tonic::async_trait]
impl TaskExecutor for Service {
    async fn submit_task(
        &self,
        request: Request<v1::SubmitTaskRequest>,
    ) -> Result<Response<v1::SubmitTaskResponse>, Status> {
        let request = request.into_inner();
        let instance = id(&request.instance_id)?;
        let task = request.task.ok_or_else(|| Status::invalid_argument("the task is missing"))?;
        let deployment =
            Deployment::parse(task, &self.own).map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.executor.submit(instance, deployment).map_err(|error| match error {
            // Worth trying again: registration and the end of another job's task are matters of a moment.
            SubmitError::OtherSession(_) | SubmitError::NotAdmitted(NotAdmitted::SlotTaken { .. }) => {
                Status::unavailable(error.to_string())
            }
            SubmitError::NotAdmitted(NotAdmitted::NoSuchSlot { .. }) => Status::failed_precondition(error.to_string()),
        })?;
        Ok(Response::new(v1::SubmitTaskResponse {}))
    }

    async fn cancel_task(
        &self,
        request: Request<v1::CancelTaskRequest>,
    ) -> Result<Response<v1::CancelTaskResponse>, Status> {
        // Attempts are unique in the cluster, whatever the registration they came with.
        let known = self.executor.cancel(id(&request.into_inner().attempt_id)?);
        Ok(Response::new(v1::CancelTaskResponse { known }))
    }
}

fn id<T: FromStr<Err = InvalidId>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: InvalidId| Status::invalid_argument(error.to_string()))
}
