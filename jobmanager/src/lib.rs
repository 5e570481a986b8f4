//! The JobManager: takes jobs, gives them slots, deploys their tasks to TaskManagers and follows them to their end.
//!
//! ```text
//!  gateway ──▶ rpc::dispatcher ──▶ dispatcher (fetch, plan) ─┐ events                   commands
//!  TaskManager ──▶ rpc::resource_manager, rpc::job_master ───┼──────▶ cluster::Cluster ─────────▶ driver ──▶ TaskManager
//!  clock ────────────────────────────────────────────────────┘        (pure: registry, slots,     (rpc::task_executor)
//!                                                                      one scheduler per job)
//! ```
//!
//! Every decision is made by [`cluster::Cluster`], which takes events and the time and never waits; everything else
//! translates.

pub mod clock;
pub mod cluster;
pub mod dispatcher;
pub mod driver;
mod error;
pub mod job_master;
pub mod resource_manager;
pub mod rpc;
pub mod settings;

use blob_server::BlobClient;
use config::{Configuration, address, bootstrap, options, tls};
use tls_common::{Listener, http, serve};
use tokio_util::sync::CancellationToken;

pub use error::JobManagerError;

use dispatcher::scripts::Scripts;
use driver::Driver;
use rpc::task_executor::TaskExecutors;
use settings::Settings;

/// What gRPC speaks over TLS.
const ALPN_H2: &str = "h2";

/// Serves until `shutdown`, then answers the calls under way and returns. Announces the address `rpc` once it can be
/// called.
pub async fn run(config: Configuration, shutdown: CancellationToken) -> Result<(), JobManagerError> {
    let settings = Settings::new(&config)?;
    let context = tls::internal_context(&config).await?;
    let rpc = tls::internal_endpoint(&config, tls::Internal::Rpc, context.as_ref())?;
    let blob = tls::internal_endpoint(&config, tls::Internal::Blob, context.as_ref())?;
    let address = address::bind_address(&config, &options::JOBMANAGER_BIND_HOST, &options::JOBMANAGER_RPC_PORT).await?;
    let listener = Listener::bind(address).await.map_err(|source| JobManagerError::Listen { address, source })?;
    let address = listener.local_addr();
    // As the others know it: it may be bound to all addresses.
    let id = format!("{}:{}", config.get(&options::JOBMANAGER_RPC_ADDRESS)?, address.port());

    let executors = TaskExecutors::new(rpc.connector(&[ALPN_H2]), settings.call_patience);
    let blob_address = &settings.cluster.blob;
    let blob_connector = blob.connector(&[proto::blob::ALPN]);
    let blob_client = BlobClient::new(blob_connector, blob_address.host.clone(), blob_address.port);
    let scripts = Scripts::new(blob_client);
    let driver = Driver::new(settings.cluster.clone(), executors, scripts.clone(), shutdown.clone());
    let dispatcher = dispatcher::Dispatcher::new(driver.clone(), scripts, settings.default_parallelism);
    let routes = rpc::routes(
        rpc::dispatcher::Service::new(driver.clone(), dispatcher, id, vec![rpc.clone(), blob]),
        rpc::resource_manager::Service::new(driver.clone(), settings.heartbeat_interval),
        rpc::job_master::Service::new(driver.clone()),
    );

    bootstrap::announce(&config, "jobmanager", &[("rpc", address)])?;
    let serving = serve(listener, rpc.acceptor(&[ALPN_H2]), shutdown, move |connection| {
        http::serve_connection(connection, routes.clone())
    });
    tokio::join!(serving, driver.run());
    Ok(())
}
