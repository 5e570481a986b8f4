//! `tidemill local`: a cluster on this machine, until Ctrl-C.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::connection::setting;
use super::interrupt::Interrupt;
use super::output::{note, say};
use super::tls_init::{self, Wanted};
use super::warn_of;
use crate::cluster::{Cluster, ClusterOptions};
use crate::rest::RestClient;
use crate::rotation::{Validity, create_dir};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Number of TaskManagers
    #[arg(long, default_value_t = 2, value_parser = at_least_one)]
    taskmanagers: usize,
    /// Task slots of each
    #[arg(long, default_value_t = 2, value_parser = at_least_one)]
    slots: usize,
    /// Where configuration, certificates, logs and blobs go; certificates that are there are used
    #[arg(long, value_name = "DIR", default_value = "tidemill-local")]
    dir: PathBuf,
    /// Port of the REST endpoint; 0 = any
    #[arg(long, default_value_t = 8081)]
    rest_port: u16,
    /// A configuration option for all processes; the environment's TIDEMILL_PROPERTIES is not theirs
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::new()?;
    create_dir(&arguments.dir)?;
    let directory = arguments.dir.canonicalize()?;
    let identities = directory.join("tls");
    let mut settings = tokio::task::spawn_blocking(move || identities_in(&identities)).await??;
    settings.push(("security.ssl.reload".to_owned(), "true".to_owned()));
    settings.extend(arguments.settings);
    let options = ClusterOptions {
        executable: env::current_exe()?,
        directory: directory.clone(),
        task_managers: arguments.taskmanagers,
        slots: arguments.slots,
        rest_port: arguments.rest_port,
        settings,
    };
    let mut cluster = tokio::select! {
        cluster = Cluster::start(options) => cluster?,
        () = interrupt.received() => return Ok(ExitCode::from(EXIT_INTERRUPTED)),
    };
    welcome(&cluster, &directory.join("tls").join(tls_init::CA_PEM)).await?;

    let mut whole = true;
    while !cluster.processes().is_empty() {
        tokio::select! {
            () = interrupt.received() => {
                let stopped = stop(cluster, interrupt).await;
                return Ok(if whole { stopped } else { ExitCode::FAILURE });
            }
            (name, status) = cluster.ended() => {
                whole = false;
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                note(format_args!("{name} has ended: {status}"));
            }
        }
    }
    Ok(ExitCode::FAILURE)
}

/// Stops the cluster; a second interrupt kills it.
async fn stop(cluster: Cluster, mut interrupt: Interrupt) -> ExitCode {
    note("stopping");
    tokio::select! {
        unclean = cluster.stop() => {
            unclean.iter().for_each(|name| note(format_args!("{name} did not end cleanly; see its log")));
            if unclean.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        () = interrupt.received() => ExitCode::from(EXIT_INTERRUPTED),
    }
}

/// Makes the identities unless there are some, and returns what a `config.yaml` says about them.
fn identities_in(directory: &Path) -> anyhow::Result<Vec<(String, String)>> {
    if directory.is_dir() {
        return Ok(tls_init::settings(directory, directory, Wanted::Both));
    }
    let directory = tls_init::make(directory, None, Wanted::Both, &[], VALIDITY)?;
    Ok(tls_init::settings(&directory, &directory, Wanted::Both))
}

/// Says who runs, and how to talk to the cluster from any directory.
async fn welcome(cluster: &Cluster, ca_pem: &Path) -> anyhow::Result<()> {
    let configuration = cluster.configuration()?;
    warn_of(&configuration);
    for process in cluster.processes() {
        say(format_args!("{:<16} pid {}", process.name(), process.id().unwrap_or_default()))?;
    }
    let client = RestClient::from_config(&configuration).await?;
    let (url, config_dir) = (client.url(), cluster.config_dir());
    let cacert = if client.is_secure() { format!("--cacert {} ", ca_pem.display()) } else { String::new() };
    say(format_args!("\n{url}"))?;
    say(format_args!("  curl {cacert}{url}/v1/overview"))?;
    say(format_args!("  {} list --config-dir {}", env::current_exe()?.display(), config_dir.display()))?;
    say(format_args!("logs in {}; Ctrl-C stops the cluster", cluster.log_dir().display()))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "expected a whole number from 1".to_owned())
}

const VALIDITY: Validity = Validity::days(365);
/// 128 + SIGINT, as shells have it.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;
