//! The gRPC side: the service the JobManager calls, and the client that calls the JobManager. They translate and
//! delegate.

pub mod jobmanager;
pub mod task_executor;

use proto::MAX_MESSAGE_BYTES;
use proto::v1::task_executor_server::TaskExecutorServer;
use tonic::service::Routes;

use crate::executor::Executor;
use proto::ids::TaskManagerId;

/// The services of a TaskManager on one router.
pub fn routes(own: TaskManagerId, executor: Executor) -> Routes {
    let service = TaskExecutorServer::new(task_executor::Service::new(own, executor))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Routes::new(service).prepare()
}
