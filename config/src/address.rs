//! From a host option and a port option to the address a service listens on, or to one that it calls.

use crate::configuration::Configuration;
use crate::error::ConfigError;
use crate::option::ConfigOption;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::{fs, io};
use tokio::net::lookup_host;

/// The address to listen on. IPv4 is preferred where a name has both; `localhost` is always 127.0.0.1.
///
/// # Errors
/// A value of the wrong form, or a name that does not resolve.
pub async fn bind_address(
    configuration: &Configuration,
    host: &ConfigOption<String>,
    port: &ConfigOption<u16>,
) -> Result<SocketAddr, ConfigError> {
    let (name, port) = (configuration.get(host)?, configuration.get(port)?);
    if name.eq_ignore_ascii_case("localhost") {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let addresses = lookup_host((name.as_str(), port)).await.map(Iterator::collect::<Vec<_>>);
    let found = addresses.and_then(|addresses| {
        let chosen = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        chosen.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no address"))
    });
    found.map_err(|error| ConfigError::Unresolvable { key: host.key(), host: name, error })
}

/// The name under which others reach a process that listens as `bind_host` says: what `host` says, else that very address
/// or name, else, for one that listens everywhere, the machine's host name, which in a container others resolve as well.
///
/// # Errors
/// A value of the wrong form, or a machine without a name.
pub fn own_host(
    configuration: &Configuration,
    host: &ConfigOption<String>,
    bind_host: &ConfigOption<String>,
) -> Result<String, ConfigError> {
    if let Some(host) = configuration.get_optional(host)? {
        return Ok(host);
    }
    let listens_on = configuration.get(bind_host)?;
    if !listens_on.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Ok(listens_on);
    }
    let name = fs::read_to_string(HOST_NAME).unwrap_or_default();
    match name.trim() {
        "" => Err(ConfigError::Missing { key: host.key(), reason: "the machine has no host name to take instead" }),
        name => Ok(name.to_owned()),
    }
}

/// Where Linux tells it.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Host and port of another process.
///
/// # Errors
/// A value of the wrong form, or port 0: the other process may choose any, but then nobody knows which.
pub fn peer_address(
    configuration: &Configuration,
    host: &ConfigOption<String>,
    port: &ConfigOption<u16>,
) -> Result<(String, u16), ConfigError> {
    match configuration.get(port)? {
        0 => Err(ConfigError::UnknownPort { key: port.key() }),
        port => Ok((configuration.get(host)?, port)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use crate::options;

    async fn address(host: &str) -> Result<SocketAddr, ConfigError> {
        let configuration = Configuration::from_pairs([("rest.bind-address", host), ("rest.port", "0")]).unwrap();
        bind_address(&configuration, &options::REST_BIND_ADDRESS, &options::REST_PORT).await
    }

    #[tokio::test]
    async fn names_and_addresses() {
        assert_eq!(address("localhost").await.unwrap(), "127.0.0.1:0".parse().unwrap());
        assert_eq!(address("0.0.0.0").await.unwrap(), "0.0.0.0:0".parse().unwrap());
        assert_eq!(address("::1").await.unwrap(), "[::1]:0".parse().unwrap());
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_named() {
        let error = address("not a host").await.unwrap_err().to_string();
        assert!(error.starts_with("`rest.bind-address: not a host`"), "{error}");
    }

    #[test]
    fn a_peer_has_a_port() {
        let configuration = |port| Configuration::from_pairs([("blob.server.port", port)]).unwrap();
        let peer = |port| peer_address(&configuration(port), &options::BLOB_SERVER_ADDRESS, &options::BLOB_SERVER_PORT);
        assert_eq!(peer("7000").unwrap(), ("localhost".to_owned(), 7000));
        let error = peer("0").unwrap_err().to_string();
        assert!(error.contains("-Dblob.server.port=PORT"), "{error}");
    }

    #[test]
    fn who_listens_everywhere_is_known_by_the_machines_name() {
        let own = |pairs: &[(&str, &str)]| {
            let configuration = Configuration::from_pairs(pairs.iter().copied()).unwrap();
            own_host(&configuration, &options::TASKMANAGER_HOST, &options::TASKMANAGER_BIND_HOST).unwrap()
        };
        assert_eq!(own(&[]), "localhost");
        assert_eq!(own(&[("taskmanager.bind-host", "192.0.2.7")]), "192.0.2.7");
        let machine = fs::read_to_string(HOST_NAME).unwrap();
        assert_eq!(own(&[("taskmanager.bind-host", "0.0.0.0")]), machine.trim());
        assert_eq!(own(&[("taskmanager.bind-host", "0.0.0.0"), ("taskmanager.host", "tm-1")]), "tm-1");
    }

    #[tokio::test]
    async fn every_server_listens_on_loopback_unless_told_otherwise() {
        let configuration = Configuration::default();
        for (host, port) in [
            (&options::JOBMANAGER_BIND_HOST, &options::JOBMANAGER_RPC_PORT),
            (&options::TASKMANAGER_BIND_HOST, &options::TASKMANAGER_DATA_PORT),
            (&options::BLOB_SERVER_BIND_HOST, &options::BLOB_SERVER_PORT),
            (&options::REST_BIND_ADDRESS, &options::REST_PORT),
        ] {
            assert!(bind_address(&configuration, host, port).await.unwrap().ip().is_loopback());
        }
    }
}
