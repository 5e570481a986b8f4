//! The gRPC side: one file per service. They translate and delegate; decisions are
//! [`Cluster`](crate::cluster::Cluster)'s.

use std::str::FromStr;

use proto::MAX_MESSAGE_BYTES;
use proto::ids::InvalidId;
use proto::v1::dispatcher_server::DispatcherServer;
use proto::v1::job_master_server::JobMasterServer;
use proto::v1::resource_manager_server::ResourceManagerServer;
use tonic::Status;
use tonic::service::Routes;

pub mod dispatcher;
pub mod job_master;
pub mod resource_manager;
pub mod task_executor;
mod views;

/// The services of a JobManager on one router.
pub fn routes(
    dispatcher: dispatcher::Service,
    resource_manager: resource_manager::Service,
    job_master: job_master::Service,
) -> Routes {
    let dispatcher = DispatcherServer::new(dispatcher)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let resource_manager = ResourceManagerServer::new(resource_manager)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let job_master = JobMasterServer::new(job_master)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Routes::new(dispatcher).add_service(resource_manager).add_service(job_master).prepare()
}

/// An id out of a message; the sender's fault if it is not one.
fn id<T: FromStr<Err = InvalidId>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: InvalidId| Status::invalid_argument(error.to_string()))
}
