//! The TaskManager: registers at the JobManager, runs the tasks it is handed, and exchanges their data with other
//! TaskManagers.
//!
//! ```text
//!  JobManager ◀── rpc::jobmanager ◀── membership (register, heartbeats) ◀─┐
//!             ──▶ rpc::task_executor ──▶ executor (slots, task life cycle)─┘
//!                                            │ per task: plan (blob server), channels, engine::run_task
//!  other TaskManagers ◀──────────────▶ shuffle
//! ```

mod error;
pub mod executor;
mod hardware;
pub mod membership;
pub mod rpc;
pub mod settings;
pub mod shuffle;
pub mod usage;

use std::io;
use std::net::SocketAddr;

use config::{ConfigOption, Configuration, DataTransport, address, bootstrap, options, tls};
use proto::ids::TaskManagerId;
use proto::v1;
use tls_common::grpc::RotatingChannel;
use tls_common::{Listener, http, serve};
use tokio_util::sync::CancellationToken;

pub use error::TaskManagerError;

use executor::Executor;
use executor::plans::Plans;
use membership::Membership;
use rpc::jobmanager::JobManager;
use settings::Settings;
use shuffle::{DataSocket, Shuffle};

/// What gRPC speaks over TLS.
const ALPN_H2: &str = "h2";

/// Serves until `shutdown`, then leaves the cluster, ends the tasks and returns. Announces the addresses `rpc` and
/// `data` once they can be called; whether there is a JobManager yet does not matter for that.
pub async fn run(config: Configuration, shutdown: CancellationToken) -> Result<(), TaskManagerError> {
    let settings = Settings::new(&config)?;
    let context = tls::internal_context(&config).await?;
    let rpc = tls::internal_endpoint(&config, tls::Internal::Rpc, context.as_ref())?;
    let data = tls::internal_endpoint(&config, tls::Internal::Data, context.as_ref())?;
    let blob = tls::internal_endpoint(&config, tls::Internal::Blob, context.as_ref())?;
    let rpc_listener = listen(&config, &options::TASKMANAGER_RPC_PORT).await?;
    let data_socket = match settings.data_transport {
        DataTransport::Tcp => listen(&config, &options::TASKMANAGER_DATA_PORT).await?.into(),
        DataTransport::Quic => {
            let address =
                address::bind_address(&config, &options::TASKMANAGER_BIND_HOST, &options::TASKMANAGER_DATA_PORT);
            let address = address.await?;
            DataSocket::bind_quic(&data, address).map_err(|source| match source.kind() {
                io::ErrorKind::InvalidInput => TaskManagerError::Quic(source),
                _ => cannot_listen(address, &options::TASKMANAGER_DATA_PORT, source),
            })?
        }
    };
    let rpc_address = rpc_listener.local_addr();
    let data_address = data_socket.local_addr().map_err(TaskManagerError::DataPlane)?;
    let id = match settings.id {
        Some(id) => id,
        None => TaskManagerId::random(&format!("{}:{}", settings.host, rpc_address.port()))?,
    };

    // The servers outlive `shutdown` until the tasks have ended.
    let serving = CancellationToken::new();
    let (shuffle, shuffle_server) =
        Shuffle::start(id.clone(), data.clone(), data_socket, settings.shuffle, serving.clone())
            .map_err(TaskManagerError::DataPlane)?;
    let channel = RotatingChannel::new(rpc.connector(&[ALPN_H2]), settings.jobmanager_host, settings.jobmanager_port);
    let jobmanager = JobManager::new(channel, settings.call_patience);
    let plans = Plans::new(blob.connector(&[proto::blob::ALPN]));
    let (slots, compression) = (settings.slots, settings.compression);
    let executor = Executor::new(id.clone(), slots, compression, shuffle.clone(), plans, jobmanager.clone());
    let routes = rpc::routes(id.clone(), executor.clone());
    let rpc_acceptor = rpc.acceptor(&[ALPN_H2]);
    let membership = Membership {
        jobmanager,
        executor,
        shuffle,
        address: v1::TaskManagerAddress {
            id: id.to_string(),
            host: settings.host,
            rpc_port: rpc_address.port().into(),
            data_port: data_address.port().into(),
        },
        slots: settings.slots,
        hardware: hardware::read(),
        heartbeat_timeout: settings.heartbeat_timeout,
        endpoints: vec![rpc, data, blob],
    };

    bootstrap::announce(&config, "taskmanager", &[("rpc", rpc_address), ("data", data_address)])?;
    let rpc_server = serve(rpc_listener, rpc_acceptor, serving.clone(), move |connection| {
        http::serve_connection(connection, routes.clone())
    });
    let member = async {
        membership.run(&shutdown).await;
        serving.cancel();
    };
    tokio::join!(rpc_server, shuffle_server, member);
    Ok(())
}

async fn listen(config: &Configuration, port: &'static ConfigOption<u16>) -> Result<Listener, TaskManagerError> {
    let address = address::bind_address(config, &options::TASKMANAGER_BIND_HOST, port).await?;
    Listener::bind(address).await.map_err(|source| cannot_listen(address, port, source))
}

fn cannot_listen(address: SocketAddr, port: &'static ConfigOption<u16>, source: io::Error) -> TaskManagerError {
    TaskManagerError::Listen { address, port_option: port.key(), source }
}
