//! Bind mounts, as `docker run -v file:file` and Kubernetes' `subPath` make them, in a mount namespace of their own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the process that has its own mount namespace.
const INSIDE: &str = "TLS_COMMON_OWN_MOUNT_NAMESPACE";

/// A file or directory that shows another one. Dropping it unmounts.
#[derive(Debug)]
pub struct BindMount {
    target: PathBuf,
}

impl BindMount {
    /// Shows `source` at `target`, which must exist and be of the same kind.
    ///
    /// # Errors
    /// `mount` is missing or may not do it; see [`in_own_mount_namespace`].
    pub fn new(source: &Path, target: &Path) -> io::Result<Self> {
        succeed(Command::new("mount").arg("--bind").arg(source).arg(target))?;
        Ok(Self { target: target.to_owned() })
    }
}

impl Drop for BindMount {
    fn drop(&mut self) {
        // What cannot be unmounted now goes with its namespace.
        let _ = succeed(Command::new("umount").arg("--lazy").arg(&self.target));
    }
}

/// Where the calling test finds itself.
#[derive(Debug)]
pub enum Namespace {
    /// In a mount namespace of its own: go on, mount what you like.
    Inside,
    /// In the original process, and the test has passed inside.
    Passed,
    /// This machine gives no mount namespace: skip the test, and say why.
    Refused(io::Error),
}

/// Runs `test`, the calling test's full name, again in a new process that has its own mount namespace (and is root
/// there), so that mounts need no privileges where user namespaces are allowed, and nobody else sees them.
///
/// # Errors
/// The test has failed inside; what it printed is in the error.
pub fn in_own_mount_namespace(test: &str) -> io::Result<Namespace> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(Namespace::Inside);
    }
    let unshare = |command: &Path| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--map-root-user"]).arg(command);
        unshare
    };
    let somewhere = std::env::temp_dir();
    if let Err(refused) = succeed(unshare(Path::new("mount")).arg("--bind").args([&somewhere, &somewhere])) {
        return Ok(Namespace::Refused(refused));
    }
    let again = std::env::current_exe()?;
    succeed(unshare(&again).args(["--exact", test, "--nocapture"]).env(INSIDE, "1"))?;
    Ok(Namespace::Passed)
}

fn succeed(command: &mut Command) -> io::Result<()> {
    let output = command.output().map_err(|error| {
        io::Error::new(error.kind(), format!("{} cannot be run: {error}", command.get_program().to_string_lossy()))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(io::Error::other(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&said).trim())))
}
