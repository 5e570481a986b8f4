//! What can be chosen about a demo.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long the job takes, in seconds: its source is paced to this
    #[arg(long, default_value_t = 65, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) seconds: u64,
    /// Time between two replacements of both bundles, for example 500ms or 1s; at least 100ms, at most --seconds
    #[arg(long, default_value = "1s", value_parser = every)]
    pub(super) rotate_every: Duration,
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
    /// Whether the job lasts long enough to see a rotation.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.rotate_every > Duration::from_secs(self.seconds) {
            return Err(format!(
                "--rotate-every {:?} is longer than the job: give more --seconds than {}, or rotate more often",
                self.rotate_every, self.seconds
            ));
        }
        Ok(())
    }
}

fn every(text: &str) -> Result<Duration, String> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let seconds_per_unit = match unit.trim() {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "min" | "m" => 60.0,
        other => return Err(format!("'{other}' is no unit of time here: use ms, s or min")),
    };
    let number: f64 = number.parse().map_err(|_| format!("'{number}' is not a number"))?;
    let every = Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|error| error.to_string())?;
    if every < SHORTEST { Err(format!("at least {SHORTEST:?}")) } else { Ok(every) }
}

/// Faster than this, making the keys would be most of the work.
const SHORTEST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(every("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(every("1.5 s"), Ok(Duration::from_millis(1500)));
        assert_eq!(every("2"), Ok(Duration::from_secs(2)));
        assert!(every("10ms").is_err() && every("1h").is_err() && every("s").is_err());
    }
}
