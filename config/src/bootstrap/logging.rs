//! Structured log lines on stderr.

use crate::configuration::{Configuration, invalid};
use crate::error::ConfigError;
use crate::options;
use crate::value::{LogFormat, Refusal};
use std::io::{self, IsTerminal as _};
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging as configured. A subscriber that is already there (one process runs several services) stays.
pub(super) fn start(configuration: &Configuration) -> Result<(), ConfigError> {
    let lines = fmt().with_writer(io::stderr).with_env_filter(filter(configuration)?);
    let _ = match configuration.get(&options::LOG_FORMAT)? {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}

fn filter(configuration: &Configuration) -> Result<EnvFilter, ConfigError> {
    let level = configuration.get(&options::LOG_LEVEL)?;
    EnvFilter::builder().parse(&level).map_err(|_| {
        let reason = Refusal::Because(
            "expected `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,tls_common=debug`",
        );
        let option = &options::LOG_LEVEL;
        invalid(option.info(), option.key(), &level, reason)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn levels_and_directives() {
        for (level, valid) in [("debug", true), ("info,tls_common=trace", true), ("info,=,", false), ("x=loud", false)]
        {
            let configuration = Configuration::from_pairs([("log.level", level)]).unwrap();
            assert_eq!(filter(&configuration).is_ok(), valid, "{level}");
        }
    }
}
