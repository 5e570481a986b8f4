//! What can be chosen about a demo.

use std::path::PathBuf;
use std::time::Duration;

use crate::commands::connection::Connection;
use crate::commands::time;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long the job takes, in seconds: its source is paced to this
    #[arg(long, default_value_t = 65, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) seconds: u64,
    /// Time between two replacements of both bundles, for example 500ms or 1s; at least 100ms, at most --seconds
    #[arg(long, default_value = "1s", value_parser = time::parse)]
    pub(super) rotate_every: Duration,
    /// Run the job on the cluster of --config-dir or --rest-url, whose certificates somebody else replaces, or nobody
    #[arg(long, requires = "dir", conflicts_with_all = ["rotate_every", "keep"])]
    pub(super) existing_cluster: bool,
    /// Directory for the job's files, which we and every TaskManager of the existing cluster see under the same name
    #[arg(long, value_name = "DIR", requires = "existing_cluster")]
    pub(super) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Leave the cluster up after the report, until Ctrl-C
    #[arg(long)]
    pub(super) keep: bool,
    /// Write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Another file with the columns of the built-in flights.csv.gz
    #[arg(long, value_name = "FILE")]
    pub(super) data: Option<PathBuf>,
}

impl Arguments {
    /// Whether the job lasts long enough to see a rotation, and nothing is said in vain.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.existing_cluster {
            return Ok(());
        }
        if self.connection.is_given() {
            return Err("the demo starts a cluster of its own; with --existing-cluster it goes to another".to_owned());
        }
        if self.rotate_every > Duration::from_secs(self.seconds) {
            return Err(format!(
                "--rotate-every {:?} is longer than the job: give more --seconds than {}, or rotate more often",
                self.rotate_every, self.seconds
            ));
        }
        Ok(())
    }
}
