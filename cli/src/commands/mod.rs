//! The command line: one file per command.

mod cancel;
pub(crate) mod connection;
mod health;
mod info;
pub(crate) mod interrupt;
mod list;
pub(crate) mod local;
pub(crate) mod output;
mod role;
mod run;
pub(crate) mod table;
pub(crate) mod time;
mod tls_init;
mod tls_rotate;
pub(crate) mod tls_status;

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use config::Configuration;

use crate::cluster::Role;
use crate::{bench, demo};
use output::note;

#[derive(Debug, Parser)]
#[command(name = "tidemill", version, about, long_about = None)]
/// Stream jobs in SQL on a cluster whose certificates may change at any time.
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job on a secured cluster whose certificates rotate all the time, and report what it cost
    Demo(demo::Arguments),
    /// Measure what the data plane moves and what it costs, with and without rotation
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Start a whole cluster on this machine
    Local(local::Arguments),
    /// Submit a SQL script
    Run(run::Arguments),
    /// List the jobs
    List(list::Arguments),
    /// Show one job
    Info(info::Arguments),
    /// Cancel a job
    Cancel(cancel::Arguments),
    /// Tell by the exit code whether the process of a role on this machine serves
    Health(health::Arguments),
    /// Certificates: make them, renew them, see who uses which
    #[command(subcommand)]
    Tls(TlsCommand),
    /// Run a JobManager in this process
    Jobmanager(role::Arguments),
    /// Run a TaskManager in this process
    Taskmanager(role::Arguments),
    /// Run a blob server in this process
    BlobServer(role::Arguments),
    /// Run a REST gateway in this process
    RestGateway(role::Arguments),
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// The shuffle, at up to three levels, against the machine's own limit in the same run
    Shuffle(Box<bench::Arguments>),
    /// One end of a transfer; started by `shuffle`
    #[command(hide = true)]
    Peer,
}

#[derive(Debug, Subcommand)]
enum TlsCommand {
    /// Make the internal identity and the one of the REST endpoint
    Init(tls_init::Arguments),
    /// Renew both identities of a directory again and again, in the way of Kubernetes
    Rotate(tls_rotate::Arguments),
    /// Show the certificate that each process uses, and who has not followed a change
    Status(tls_status::Arguments),
}

/// Runs the command line of this process. Exit codes: 0 done, 1 failed (one line on standard error says why), 64 wrong
/// arguments.
pub fn main() -> ExitCode {
    let line = as_subcommand(env::args_os().collect());
    match Arguments::try_parse_from(line).and_then(Arguments::checked) {
        Ok(arguments) => dispatch(arguments.command),
        Err(error) => {
            // Help and version are "errors" that belong on standard output; if that is closed there is nobody to tell.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

/// Called by the name of a role, as by a link in the image, this program is that role.
fn as_subcommand(mut line: Vec<OsString>) -> Vec<OsString> {
    let called = line.first().and_then(|program| Path::new(program).file_name()).map(OsStr::to_owned);
    if let Some(called) = called.filter(|name| Role::value_variants().iter().any(|role| name == role.name())) {
        line.insert(1, called);
    }
    line
}

impl Arguments {
    /// What clap cannot check: arguments that only make sense together.
    fn checked(self) -> Result<Self, clap::Error> {
        match &self.command {
            Command::Demo(demo) => demo.check(),
            _ => Ok(()),
        }
        .map_err(|why| Self::command().error(ErrorKind::ValueValidation, why))?;
        Ok(self)
    }
}

fn dispatch(command: Command) -> ExitCode {
    match command {
        Command::Jobmanager(arguments) => role::run(Role::JobManager, arguments),
        Command::Taskmanager(arguments) => role::run(Role::TaskManager, arguments),
        Command::BlobServer(arguments) => role::run(Role::BlobServer, arguments),
        Command::RestGateway(arguments) => role::run(Role::RestGateway, arguments),
        Command::Demo(arguments) => block_on(demo::run(arguments)),
        Command::Bench(BenchCommand::Shuffle(arguments)) => block_on(bench::run(*arguments)),
        Command::Bench(BenchCommand::Peer) => report(bench::peer()),
        Command::Local(arguments) => block_on(local::run(arguments)),
        Command::Run(arguments) => block_on(run::run(arguments)),
        Command::List(arguments) => block_on(list::run(arguments)),
        Command::Info(arguments) => block_on(info::run(arguments)),
        Command::Cancel(arguments) => block_on(cancel::run(arguments)),
        Command::Health(arguments) => block_on(health::run(arguments)),
        Command::Tls(TlsCommand::Init(arguments)) => report(tls_init::run(arguments)),
        Command::Tls(TlsCommand::Rotate(arguments)) => block_on(tls_rotate::run(arguments)),
        Command::Tls(TlsCommand::Status(arguments)) => block_on(tls_status::run(arguments)),
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    report(runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(command)))
}

fn report(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        note(format_args!("tidemill: {}", in_one_line(&error)));
        ExitCode::FAILURE
    })
}

/// An error and its causes, without those whose words the error repeats and without line breaks.
fn in_one_line(error: &anyhow::Error) -> String {
    let line = error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.as_str() {
        "" => cause,
        said if said.contains(&cause) => line,
        said => format!("{said}: {cause}"),
    });
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Says on standard error what is not as the configuration asks for; services log the same.
pub(crate) fn warn_of(configuration: &Configuration) {
    configuration.warnings().iter().for_each(|warning| note(format_args!("tidemill: warning: {warning}")));
}

/// "Command line usage error", as in `sysexits.h`.
const EX_USAGE: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("file not found").context("cannot read a: file not found").context("cannot start");
        assert_eq!(in_one_line(&error), "cannot start: cannot read a: file not found");
    }

    #[test]
    fn a_cause_of_several_lines_becomes_one() {
        let error = anyhow::anyhow!("expected one of:\n    a\n    b\n").context("cannot plan");
        assert_eq!(in_one_line(&error), "cannot plan: expected one of: a b");
    }

    #[test]
    fn the_demo_refuses_to_last_shorter_than_the_first_rotation() {
        let demo = |every: &str| {
            let arguments = ["tidemill", "demo", "--seconds", "3", "--rotate-every", every];
            Arguments::try_parse_from(arguments).and_then(Arguments::checked).map(drop).map_err(|error| error.kind())
        };
        assert_eq!(demo("3s"), Ok(()));
        assert_eq!(demo("4s"), Err(ErrorKind::ValueValidation));
    }

    #[test]
    fn a_job_id_is_checked_before_anybody_is_asked() {
        let cancel = |id: &str| Arguments::try_parse_from(["tidemill", "cancel", id]).map(drop);
        assert!(cancel("0123456789abcdef0123456789ABCDEF").is_ok());
        let error = cancel("../overview").map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|error| error.contains("32 hexadecimal digits")), "{error:?}");
    }

    #[test]
    fn the_name_of_a_role_is_a_subcommand() {
        let line = |words: &[&str]| as_subcommand(words.iter().map(OsString::from).collect());
        let role = ["/usr/local/bin/blob-server", "blob-server", "--config-dir", "conf"];
        assert_eq!(line(&["/usr/local/bin/blob-server", "--config-dir", "conf"]), role);
        assert_eq!(line(&["target/release/tidemill", "list"]), ["target/release/tidemill", "list"]);
        assert!(line(&[]).is_empty());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
