//! Telling others that the service is ready, and where.

use crate::configuration::Configuration;
use crate::error::ConfigError;
use crate::options;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fs, io, process};

/// What the ready file holds.
#[derive(Serialize)]
struct Ready<'a> {
    service: &'a str,
    pid: u32,
    addresses: BTreeMap<&'a str, SocketAddr>,
}

/// Logs that `service` listens on `addresses` (name and address, with the port the system chose) and, if
/// `process.ready-file` is set, writes them there as JSON, all at once. Call it when the service can be used.
///
/// # Errors
/// The file cannot be written.
pub fn announce(
    configuration: &Configuration,
    service: &str,
    addresses: &[(&str, SocketAddr)],
) -> Result<(), ConfigError> {
    if let Some(path) = path(configuration)? {
        let ready = Ready { service, pid: process::id(), addresses: addresses.iter().copied().collect() };
        write(&path, &ready).map_err(|error| failed(&path, error))?;
    }
    let addresses: Vec<String> = addresses.iter().map(|(name, address)| format!("{name}={address}")).collect();
    tracing::info!(service, addresses = addresses.join(" "), "listening");
    Ok(())
}

/// Removes what an earlier run left, which would say "ready" too early.
pub(super) fn remove_stale(configuration: &Configuration) -> Result<(), ConfigError> {
    let Some(path) = path(configuration)? else { return Ok(()) };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, error)),
        _ => Ok(()),
    }
}

fn path(configuration: &Configuration) -> Result<Option<PathBuf>, ConfigError> {
    let path = configuration.get_optional(&options::PROCESS_READY_FILE)?;
    Ok(path.map(|path| configuration.resolve(&path)))
}

fn write(path: &Path, ready: &Ready<'_>) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    fs::write(&unfinished, serde_json::to_vec(ready)?)?;
    fs::rename(&unfinished, path)
}

fn failed(path: &Path, error: io::Error) -> ConfigError {
    ConfigError::ReadyFile { key: options::PROCESS_READY_FILE.key(), path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_file_is_complete_json_and_a_stale_one_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        let configuration = Configuration::from_pairs([("process.ready-file", path.to_str().unwrap())]).unwrap();
        remove_stale(&configuration).unwrap();
        announce(&configuration, "jobmanager", &[("rpc", "127.0.0.1:6123".parse().unwrap())]).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let expected = serde_json::json!({
            "service": "jobmanager", "pid": process::id(), "addresses": { "rpc": "127.0.0.1:6123" }
        });
        assert_eq!(written, expected);
        remove_stale(&configuration).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let configuration = Configuration::from_pairs([("process.ready-file", "/nowhere/at/all")]).unwrap();
        let error = announce(&configuration, "jobmanager", &[]).unwrap_err().to_string();
        assert!(error.starts_with("`process.ready-file`: cannot write /nowhere/at/all: "), "{error}");
    }
}
