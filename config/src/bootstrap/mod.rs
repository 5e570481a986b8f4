//! The `main` of a service: arguments, configuration, logging, runtime, signals and exit code.
//!
//! | exit code | |
//! |---|---|
//! | 0 | the service ended by itself or drained after SIGTERM, SIGINT or the end of its parent |
//! | 1 | it could not start or failed; the reason is one line on stderr |
//! | 64 | bad arguments |

mod arguments;
mod limits;
mod logging;
mod parent;
mod ready;

pub use ready::announce;

use crate::configuration::Configuration;
use crate::error::ConfigError;
use crate::options;
use crate::tls::hangup;
use arguments::Arguments;
use parent::Parent;
use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Most threads of a runtime; more would only wait for each other.
const WORKER_THREADS_MAX: usize = 1_024;

/// How long blocking work (a file that is being read) may hold up the exit after the service itself is done.
const BLOCKING_WORK_GRACE: Duration = Duration::from_secs(1);

/// Runs `service` with the arguments of this process; see [`run_with_args`].
pub fn main<F, Fut, E>(service: &'static str, run: F) -> ExitCode
where
    F: FnOnce(Configuration, CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    run_with_args(service, env::args_os().skip(1), run)
}

/// Runs `service` with `args`, which do not contain the program's name: `--config-dir DIR` (default `conf`),
/// `-Dkey=value` as often as needed, `--version`, `--help`.
///
/// `run` gets the loaded configuration and a token that is cancelled at SIGTERM or SIGINT; then it should drain and
/// return. A second signal does not wait for that. SIGHUP makes every TLS context look at its files. The `Display` of
/// its error should be one line that says what to do; make it the whole chain of causes.
pub fn run_with_args<F, Fut, E>(service: &'static str, args: impl Iterator<Item = OsString>, run: F) -> ExitCode
where
    F: FnOnce(Configuration, CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    let arguments = match Arguments::parse(service, args) {
        Ok(arguments) => arguments,
        Err(exit_code) => return exit_code,
    };
    match start(service, &arguments, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let reason: Vec<&str> = reason.split_whitespace().collect();
            eprintln!("{service}: {}", reason.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// The error is the line for stderr.
fn start<F, Fut, E>(service: &'static str, arguments: &Arguments, run: F) -> Result<(), String>
where
    F: FnOnce(Configuration, CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    let line = |error: &dyn Display| error.to_string();
    let configuration =
        Configuration::load(&arguments.config_dir, &arguments.overrides).map_err(|error| line(&error))?;
    logging::start(&configuration).map_err(|error| line(&error))?;
    info!(service, version = env!("CARGO_PKG_VERSION"), config_dir = %arguments.config_dir.display(), "starting");
    limits::raise_open_files();
    for (key, value) in configuration.masked() {
        info!("configured {key}: {value}");
    }
    configuration.notes().iter().for_each(|note| info!("{note}"));
    configuration.warnings().iter().for_each(|warning| warn!("{warning}"));
    ready::remove_stale(&configuration).map_err(|error| line(&error))?;
    let _remembering = hangup::remember_contexts();
    let mut runtime = runtime::Builder::new_multi_thread();
    if let Some(threads) = worker_threads(service, &configuration).map_err(|error| line(&error))? {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    let result = runtime.block_on(async {
        // Before the service starts: a signal that comes first must not kill the process half-way.
        let signals = Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
        let parent = Parent::watched(&configuration).map_err(|error| line(&error))?;
        let shutdown = CancellationToken::new();
        supervise(run(configuration, shutdown.clone()), signals, parent, shutdown).await
    });
    runtime.shutdown_timeout(BLOCKING_WORK_GRACE);
    result
}

/// `None`: one for each core.
fn worker_threads(service: &str, configuration: &Configuration) -> Result<Option<usize>, ConfigError> {
    if service != "taskmanager" {
        return Ok(None);
    }
    let configured = configuration.get_optional(&options::TASKMANAGER_WORKER_THREADS)?;
    Ok(Some(configured.map_or_else(task_threads, |threads| threads.min(WORKER_THREADS_MAX))))
}

/// Threads that a TaskManager runs tasks and their exchange on, unless `taskmanager.worker-threads` says otherwise.
pub fn task_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn supervise<E: Display>(
    service: impl Future<Output = Result<(), E>>,
    mut signals: Signals,
    mut parent: Parent,
    shutdown: CancellationToken,
) -> Result<(), String> {
    let mut service = pin!(service);
    loop {
        let stop = tokio::select! {
            result = &mut service => return result.map_err(|error| error.to_string()),
            _ = signals.terminate.recv() => "SIGTERM",
            _ = signals.interrupt.recv() => "SIGINT",
            () = parent.gone() => "the parent has ended",
            _ = signals.hangup.recv() => {
                match hangup::reload_all() {
                    0 => warn!("SIGHUP: nothing to reload, `security.ssl.reload` is false or TLS is off"),
                    contexts => info!(contexts, "SIGHUP: looking at the TLS files"),
                }
                continue;
            }
        };
        if shutdown.is_cancelled() {
            return Err(format!("stopped a second time ({stop}) before it had drained"));
        }
        info!("{stop}: draining");
        shutdown.cancel();
    }
}
