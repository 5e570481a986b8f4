//! `tidemill jobmanager|taskmanager|blob-server|rest-gateway`: one role in this process, exactly as its own binary does.

use std::ffi::OsString;
use std::process::ExitCode;

use config::bootstrap;

use crate::cluster::Role;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// `--config-dir DIR` (default `conf`) and any number of `-Dkey=value`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

pub(super) fn run(role: Role, arguments: Arguments) -> ExitCode {
    let (name, options) = (role.name(), arguments.options.into_iter());
    match role {
        Role::JobManager => bootstrap::run_with_args(name, options, jobmanager::run),
        Role::TaskManager => bootstrap::run_with_args(name, options, taskmanager::run),
        Role::BlobServer => bootstrap::run_with_args(name, options, blob_server::run),
        Role::RestGateway => bootstrap::run_with_args(name, options, rest_gateway::run),
    }
}
