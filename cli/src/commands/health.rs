//! `tidemill health ROLE`: whether the process of that role on this machine serves, for health checks of containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use config::options::{
    BLOB_SERVER_BIND_HOST, BLOB_SERVER_PORT, JOBMANAGER_BIND_HOST, JOBMANAGER_RPC_PORT, TASKMANAGER_BIND_HOST,
    TASKMANAGER_RPC_PORT,
};
use config::tls::Internal;
use config::{Configuration, address, tls};
use tokio::time::timeout;

use super::connection::setting;
use crate::cluster::Role;
use crate::probe::{Kind, hear};
use crate::rest::RestClient;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Whose health
    #[arg(value_enum)]
    role: Role,
    /// Directory with the process's config.yaml
    #[arg(long, value_name = "DIR", default_value = "conf")]
    config_dir: PathBuf,
    /// A configuration option; wins over config.yaml
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

/// Healthy is who accepts our certificate, has one that we accept and says the first bytes of its protocol; a REST
/// gateway, who gets an answer from the JobManager.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let configuration = Configuration::load(&arguments.config_dir, &arguments.settings)?;
    let role = arguments.role;
    let looked = timeout(PATIENCE, look(role, &configuration)).await;
    let healthy = looked.with_context(|| format!("no answer within {PATIENCE:?}")).and_then(|looked| looked);
    healthy.with_context(|| format!("{} is not healthy", role.name())).map(|()| ExitCode::SUCCESS)
}

async fn look(role: Role, configuration: &Configuration) -> anyhow::Result<()> {
    let (internal, kind, host, port) = match role {
        Role::JobManager => (Internal::Rpc, Kind::Rpc, &JOBMANAGER_BIND_HOST, &JOBMANAGER_RPC_PORT),
        Role::TaskManager => (Internal::Rpc, Kind::Rpc, &TASKMANAGER_BIND_HOST, &TASKMANAGER_RPC_PORT),
        Role::BlobServer => (Internal::Blob, Kind::Blob, &BLOB_SERVER_BIND_HOST, &BLOB_SERVER_PORT),
        Role::RestGateway => {
            let client = RestClient::from_config(configuration).await?;
            client.get::<serde_json::Value>("/v1/overview").await?;
            return Ok(());
        }
    };
    let address = local(address::bind_address(configuration, host, port).await?);
    ensure!(address.port() != 0, "its port is not known: set {}", port.key());
    let context = tls::internal_context(configuration).await?;
    let endpoint = tls::internal_endpoint(configuration, internal, context.as_ref())?;
    let connector = endpoint.connector(&[kind.alpn()]);
    let mut connection = connector.connect(&address.ip().to_string(), address.port()).await?;
    Ok(hear(kind, &mut connection).await?)
}

/// Less than the 5 s after which docker-compose.yml has a check killed, so that it says why, and ends in its own time.
const PATIENCE: Duration = Duration::from_secs(4);

/// Where somebody who listens at `address` is reached from the same machine.
fn local(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
