//! The command line of a service.

use clap::{CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// `EX_USAGE` of BSD's sysexits.h.
const BAD_ARGUMENTS: u8 = 64;

#[derive(Debug, Parser)]
#[command(no_binary_name = true, version)]
pub(super) struct Arguments {
    /// Directory that holds config.yaml
    #[arg(short, long, alias = "configDir", value_name = "DIR", default_value = "conf")]
    pub(super) config_dir: PathBuf,

    /// Sets one option; wins over the file and the environment (secrets are better off in a password file)
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub(super) overrides: Vec<(String, String)>,
}

impl Arguments {
    /// The exit code stands for everything that ends the process here: bad arguments, but also `--version` and `--help`.
    pub(super) fn parse(service: &'static str, args: impl Iterator<Item = OsString>) -> Result<Self, ExitCode> {
        let mut command = Self::command().name(service);
        let parsed = command.try_get_matches_from_mut(args).and_then(|matches| Self::from_arg_matches(&matches));
        parsed.map_err(|error| {
            // Nothing is left to be done if the terminal is gone.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(BAD_ARGUMENTS) } else { ExitCode::SUCCESS }
        })
    }
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.trim().is_empty() { Err("the key is empty") } else { Ok((key.trim().to_owned(), value.to_owned())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use std::path::Path;

    fn parse(args: &[&str]) -> Result<Arguments, ExitCode> {
        Arguments::parse("jobmanager", args.iter().map(OsString::from))
    }

    #[test]
    fn the_command_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn defaults_and_overrides() {
        assert_eq!(parse(&[]).unwrap().config_dir, Path::new("conf"));
        let arguments = parse(&["-Drest.port=0", "--config-dir", "/etc/tidemill", "-D", "log.level=a=b"]).unwrap();
        assert_eq!(arguments.config_dir, Path::new("/etc/tidemill"));
        let expected =
            [("rest.port", "0"), ("log.level", "a=b")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(arguments.overrides, expected);
    }

    #[test]
    fn bad_arguments_exit_64_and_questions_0() {
        for (args, code) in
            [(["--nonsense"], 64), (["-Dkey"], 64), (["-D=value"], 64), (["--version"], 0), (["--help"], 0)]
        {
            assert_eq!(parse(&args).unwrap_err(), ExitCode::from(code), "{args:?}");
        }
    }
}
