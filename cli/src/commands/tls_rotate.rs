//! `tidemill tls rotate`: renews what `tidemill tls init` has made, again and again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::interrupt::Interrupt;
use super::output::say;
use super::time;
use super::tls_status::short;
use crate::rotation::{Passwords, Renewed, Renewer, Validity};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Directory that `tidemill tls init` has filled and that all processes read
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Directory of the files internal-password, rest-password and rest-ca-password, if it is another
    #[arg(long, value_name = "DIR")]
    password_dir: Option<PathBuf>,
    /// Time between two replacements of both identities, for example 500ms, 10s or 5min; at least 100ms
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    every: Duration,
    /// End after so many replacements
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Validity of the new certificates in days
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
}

/// Ends at SIGTERM or SIGINT, between two replacements.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::new()?;
    let passwords = arguments.password_dir.unwrap_or_else(|| arguments.dir.clone());
    let (directory, validity) = (arguments.dir.clone(), Validity::days(arguments.days));
    let opened = spawn_blocking(move || Renewer::open(&directory, Passwords::read(&passwords)?, validity));
    let mut renewer = opened.await??;
    let mut ticks = interval_at(Instant::now(), arguments.every);
    // After a stall no burst: a process would see one change where several were announced.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0;
    while arguments.count.is_none_or(|wanted| count < wanted) {
        tokio::select! {
            () = interrupt.received() => break,
            _ = ticks.tick() => {}
        }
        let renewed;
        (renewer, renewed) = spawn_blocking(move || (renewer.renew(), renewer)).await.map(|(done, r)| (r, done))?;
        let Renewed { internal, rest, replaced } =
            renewed.with_context(|| format!("after {count} replacements in {}", arguments.dir.display()))?;
        if replaced {
            count += 1;
            let (internal, rest) = (short(&internal), short(&rest));
            say(format_args!("replacement {count}: ..data swapped, internal {internal}, rest {rest}"))?;
        } else {
            let dir = arguments.dir.display();
            let (internal, every) = (short(&internal), arguments.every);
            say(format_args!(
                "{dir}: the next certificates are trusted beside {internal}; first replacement in {every:?}"
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
