//! `tidemill tls init`: the identities of a new cluster, after the recipes of Flink's SSL set-up page.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::output::say;
use crate::rotation::{
    FileSet, InternalBundle, Kept, LOOPBACK, Passwords, RestBundle, Validity, create_dir, create_together,
    internal_files, rest_files,
};

/// The file with the CA of the REST endpoint, for curl.
pub(super) const CA_PEM: &str = RestBundle::CA_PEM;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Directory for the files; made if it does not exist
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Further names and addresses of the REST endpoint, beside localhost, 127.0.0.1 and ::1
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Validity of the certificates in days (the CA of the REST endpoint: ten years)
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// Take the passwords from the files internal-password, rest-password and rest-ca-password of this directory, which
    /// stay there, instead of making random ones
    #[arg(long, value_name = "DIR")]
    password_dir: Option<PathBuf>,
    /// Where both identities are there already, check that they are complete and leave them as they are
    #[arg(long, conflicts_with_all = ["internal_only", "rest_only"])]
    keep_existing: bool,
    /// Make the internal identity only
    #[arg(long, conflicts_with = "rest_only")]
    internal_only: bool,
    /// Make the REST endpoint's identity only
    #[arg(long)]
    rest_only: bool,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let wanted = match (arguments.internal_only, arguments.rest_only) {
        (true, _) => Wanted::Internal,
        (_, true) => Wanted::Rest,
        _ => Wanted::Both,
    };
    let passwords = arguments.password_dir.as_deref();
    if arguments.keep_existing && Kept::is_any_in(&arguments.dir) {
        let passwords = Passwords::read(passwords.unwrap_or(&arguments.dir))?;
        let kept = Kept::open(&arguments.dir, &passwords).with_context(|| {
            let directory = arguments.dir.display();
            format!("what is in {directory} is not complete and is left alone: restore it, or remove it to have it made anew")
        })?;
        let (internal, rest) = kept.fingerprints();
        say(format_args!("kept what is in {}: internal {internal}, rest {rest}", arguments.dir.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let validity = Validity::days(arguments.days);
    let directory = make(&arguments.dir, passwords, wanted, &arguments.hosts, validity)?;
    say(
        "Made. Copy the directory to every host, beside its config.yaml: the internal.* files and rest.truststore.p12 with\n\
         their password files; rest.keystore.p12 only to the REST gateway; rest-ca.p12 to nobody. Add to each config.yaml:\n",
    )?;
    // Relative to config.yaml, so that the lines are the same on every host.
    let beside = Path::new(directory.file_name().unwrap_or_default());
    for (key, value) in settings(beside, passwords.unwrap_or(beside), wanted) {
        say(format_args!("{key}: {value}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Both,
    Internal,
    Rest,
}

/// Makes identities in `directory` and returns it as an absolute path. Overwrites nothing. Their passwords are those in
/// the directory `passwords`, or random ones that are kept beside them.
pub(super) fn make(
    directory: &Path,
    passwords: Option<&Path>,
    wanted: Wanted,
    hosts: &[String],
    validity: Validity,
) -> anyhow::Result<PathBuf> {
    create_dir(directory)?;
    let directory = directory.canonicalize()?;
    let beside = passwords.is_none();
    let passwords = passwords.map_or_else(|| Ok(Passwords::random()), Passwords::read)?;
    let mut files = FileSet::new();
    if wanted != Wanted::Rest {
        files.extend(internal_files(&passwords, beside, validity)?);
    }
    if wanted != Wanted::Internal {
        let hosts = LOOPBACK.into_iter().map(str::to_owned).chain(hosts.iter().cloned()).collect();
        files.extend(rest_files(&passwords, beside, hosts, validity)?);
    }
    create_together(&directory, &files)?;
    Ok(directory)
}

/// What a `config.yaml` says about the identities that [`make`] has made in `directory`, whose passwords are in
/// `passwords`.
pub(super) fn settings(directory: &Path, passwords: &Path, wanted: Wanted) -> Vec<(String, String)> {
    let internal = (wanted != Wanted::Rest).then(|| InternalBundle::settings(directory, passwords));
    let rest = (wanted != Wanted::Internal).then(|| RestBundle::settings(directory, passwords));
    internal.into_iter().chain(rest).flatten().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> BTreeSet<String> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn every_file_that_the_settings_name_is_there_and_private() {
        let scratch = tempfile::tempdir().unwrap();
        make(&scratch.path().join("tls"), None, Wanted::Both, &[], Validity::days(1)).unwrap();
        let settings = settings(Path::new("tls"), Path::new("tls"), Wanted::Both);
        let files = settings.iter().filter(|(_, value)| value.starts_with("tls/"));
        assert!(files.clone().count() > 0);
        for (key, file) in files {
            assert_eq!(fs::metadata(scratch.path().join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_half_made() {
        let scratch = tempfile::tempdir().unwrap();
        make(scratch.path(), None, Wanted::Rest, &[], Validity::days(1)).unwrap();
        let before = names(scratch.path());
        let ca = fs::read(scratch.path().join("rest-ca.pem")).unwrap();
        assert!(make(scratch.path(), None, Wanted::Both, &[], Validity::days(1)).is_err());
        assert_eq!(names(scratch.path()), before);
        assert_eq!(fs::read(scratch.path().join("rest-ca.pem")).unwrap(), ca);
        make(scratch.path(), None, Wanted::Internal, &[], Validity::days(1)).unwrap();
        assert!(names(scratch.path()).contains("internal.keystore.p12"));
    }
}
