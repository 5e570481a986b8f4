//! Renewal of identities that are on disk, by the `..data` swap of Kubernetes.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::kept::{FILES, Kept, Passwords};
use super::{Directory, InternalBundle, RestBundle, RotationError, RotatorOptions, Validity, Way};

/// Renews both identities of a directory; nobody else does so meanwhile.
///
/// The first step replaces nothing but says whom to trust next; from then on every step presents what the step before
/// has announced, so that a process that has not followed yet and one that has accept each other.
#[derive(Debug)]
pub(crate) struct Renewer {
    internal: InternalBundle,
    rest: RestBundle,
    passwords: Passwords,
    directory: Directory,
    announced: bool,
    /// Locked; the system unlocks it when we end, however that happens.
    _lock: File,
}

/// One step done: SHA-256 of the certificates that are on disk now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Renewed {
    pub(crate) internal: String,
    pub(crate) rest: String,
    /// Whether they are new; at the first step only trust is.
    pub(crate) replaced: bool,
}

impl Renewer {
    /// Takes over what is in `directory`.
    ///
    /// # Errors
    /// See [`Kept::open`]; another renewer is at work there.
    pub(crate) fn open(directory: &Path, passwords: Passwords, validity: Validity) -> Result<Self, RotationError> {
        let lock = lock(directory)?;
        let kept = Kept::open(directory, &passwords)?;
        Ok(Self {
            internal: InternalBundle::resume(kept.internal, kept.trusted, RotatorOptions::default().window, validity)?,
            rest: RestBundle::resume(kept.authority, kept.rest, kept.hosts, validity),
            passwords,
            directory: Directory::open(directory, &FILES)?,
            announced: false,
            _lock: lock,
        })
    }

    /// Goes on by one step.
    ///
    /// # Errors
    /// What is on disk is as it was.
    pub(crate) fn renew(&mut self) -> Result<Renewed, RotationError> {
        if self.announced {
            self.internal.advance()?;
            self.rest.advance()?;
        }
        let mut files = self.internal.stores(&self.passwords.internal)?;
        files.extend(self.rest.stores(&self.passwords.rest)?);
        self.directory.replace(files, Way::SymlinkSwap)?;
        let replaced = std::mem::replace(&mut self.announced, true);
        Ok(Renewed {
            internal: self.internal.identity().fingerprint(),
            rest: self.rest.identity().fingerprint(),
            replaced,
        })
    }
}

fn lock(directory: &Path) -> Result<File, RotationError> {
    let path = directory.join(".rotate.lock");
    let file = File::create(&path).map_err(|cause| RotationError::File { path: path.clone(), cause })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let reason = "another `tidemill tls rotate` is at work there: stop that one".to_owned();
            Err(RotationError::Unusable { path: directory.to_owned(), reason })
        }
        Err(TryLockError::Error(cause)) => Err(RotationError::File { path, cause }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::symlink;

    use p12_keystore::Pkcs12Archive;

    use super::*;
    use crate::rotation::{create_together, internal_files, rest_files};

    const VALIDITY: Validity = Validity::days(1);
    const HOSTS: [&str; 3] = ["gateway.example.org", "127.0.0.1", "::1"];

    /// A directory as `tls init` leaves it, and another one with the passwords.
    fn made() -> (tempfile::TempDir, tempfile::TempDir) {
        let (directory, secrets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["internal-password", "rest-password", "rest-ca-password"] {
            fs::write(secrets.path().join(name), format!("secret of {name}\n")).unwrap();
        }
        let passwords = passwords(secrets.path());
        let hosts = HOSTS.map(str::to_owned).into();
        create_together(directory.path(), &internal_files(&passwords, false, VALIDITY).unwrap()).unwrap();
        create_together(directory.path(), &rest_files(&passwords, false, hosts, VALIDITY).unwrap()).unwrap();
        (directory, secrets)
    }

    fn passwords(secrets: &Path) -> Passwords {
        Passwords::read(secrets).unwrap()
    }

    fn certificates(directory: &Path, name: &str, password: &str) -> BTreeSet<Vec<u8>> {
        let bytes = fs::read(directory.join(name)).unwrap();
        let archive = Pkcs12Archive::from_pkcs12(&bytes, password).unwrap();
        archive.certs.iter().map(|bag| bag.cert.as_der().to_vec()).collect()
    }

    fn trusted(directory: &Path) -> BTreeSet<Vec<u8>> {
        certificates(directory, "internal.truststore.p12", "secret of internal-password")
    }

    #[test]
    fn whoever_is_one_step_apart_trusts_the_other_also_after_a_new_start() {
        let (directory, secrets) = made();
        let mut trusted_before = trusted(directory.path());
        // Newest last.
        let mut presented = vec![];
        for _ in 0..3 {
            let mut renewer = Renewer::open(directory.path(), passwords(secrets.path()), VALIDITY).unwrap();
            for step in 0..3 {
                let renewed = renewer.renew().unwrap();
                assert_eq!(renewed.replaced, step > 0);
                let kept = Kept::open(directory.path(), &passwords(secrets.path())).unwrap();
                assert_eq!(kept.fingerprints(), (renewed.internal, renewed.rest));
                let current = kept.internal.certificate().to_vec();
                assert!(trusted_before.contains(&current), "step {step} was not announced");
                trusted_before = trusted(directory.path());
                if presented.last() != Some(&current) {
                    presented.push(current);
                }
                let forgotten = presented.iter().rev().take(2).any(|before| !trusted_before.contains(before));
                assert!(!forgotten, "somebody still presents the pair before that of step {step}");
            }
        }
    }

    #[test]
    fn the_rest_certificate_keeps_its_hosts_and_its_ca() {
        let (directory, secrets) = made();
        let pem = fs::read(directory.path().join("rest-ca.pem")).unwrap();
        let before = Kept::open(directory.path(), &passwords(secrets.path())).unwrap();
        let mut renewer = Renewer::open(directory.path(), passwords(secrets.path()), VALIDITY).unwrap();
        (0..2).for_each(|_| drop(renewer.renew().unwrap()));
        let after = Kept::open(directory.path(), &passwords(secrets.path())).unwrap();
        assert_ne!(after.rest.certificate(), before.rest.certificate());
        assert_eq!(after.rest.hosts(), HOSTS);
        assert_eq!(after.rest.chain()[1], before.rest.chain()[1]);
        assert_eq!(fs::read(directory.path().join("rest-ca.pem")).unwrap(), pem);
    }

    #[test]
    fn what_a_killed_renewer_has_left_is_swept_away_and_what_is_in_use_is_not() {
        let (directory, secrets) = made();
        let path = directory.path();
        let mut renewer = Renewer::open(path, passwords(secrets.path()), VALIDITY).unwrap();
        renewer.renew().unwrap();
        drop(renewer);
        symlink("..1", path.join("..data_tmp")).unwrap();
        symlink("..data/rest-ca.pem", path.join(".rest-ca.pem.tmp")).unwrap();
        fs::create_dir(path.join("..1")).unwrap();
        let mut renewer = Renewer::open(path, passwords(secrets.path()), VALIDITY).unwrap();
        for left in ["..1", "..data_tmp", ".rest-ca.pem.tmp"] {
            assert!(path.join(left).symlink_metadata().is_err(), "{left}");
        }
        Kept::open(path, &passwords(secrets.path())).unwrap();
        renewer.renew().unwrap();
    }

    #[test]
    fn a_renewer_that_was_killed_at_its_first_swap_leaves_nothing_behind_the_visible_files() {
        for linked in 0..=FILES.len() {
            let (directory, secrets) = made();
            let path = directory.path();
            // As after the first swap, with so many of the links made.
            fs::create_dir(path.join("..1")).unwrap();
            for name in FILES {
                fs::copy(path.join(name), path.join("..1").join(name)).unwrap();
            }
            symlink("..1", path.join("..data")).unwrap();
            for name in &FILES[..linked] {
                fs::remove_file(path.join(name)).unwrap();
                symlink(Path::new("..data").join(name), path.join(name)).unwrap();
            }
            let mut renewer = Renewer::open(path, passwords(secrets.path()), VALIDITY).unwrap();
            (0..2).for_each(|_| drop(renewer.renew().unwrap()));
            for name in FILES {
                let visible = fs::read(path.join(name)).unwrap();
                assert_eq!(visible, fs::read(path.join("..data").join(name)).unwrap(), "{name}, {linked} links");
            }
        }
    }

    #[test]
    fn there_is_one_renewer_at_a_time() {
        let (directory, secrets) = made();
        let _first = Renewer::open(directory.path(), passwords(secrets.path()), VALIDITY).unwrap();
        let second = Renewer::open(directory.path(), passwords(secrets.path()), VALIDITY);
        assert!(second.unwrap_err().to_string().contains("another `tidemill tls rotate`"));
    }

    #[test]
    fn what_does_not_fit_or_does_not_open_is_named() {
        let (directory, secrets) = made();
        let open = || Kept::open(directory.path(), &passwords(secrets.path())).map(drop).map_err(|e| e.to_string());
        fs::write(secrets.path().join("rest-password"), "another\n").unwrap();
        assert!(open().unwrap_err().contains("rest.keystore.p12"));
        fs::write(secrets.path().join("rest-password"), "secret of rest-password\n").unwrap();
        fs::write(directory.path().join("rest-ca.pem"), "").unwrap();
        assert!(open().unwrap_err().contains("rest-ca.pem"));
        let (other, _) = made();
        fs::copy(other.path().join("rest-ca.p12"), directory.path().join("rest-ca.p12")).unwrap();
        assert!(open().unwrap_err().contains("has not signed the certificate beside it"));
        fs::copy(other.path().join("internal.keystore.p12"), directory.path().join("internal.keystore.p12")).unwrap();
        assert!(open().unwrap_err().contains("does not trust the keystore beside it"));
        fs::remove_file(directory.path().join("internal.keystore.p12")).unwrap();
        assert!(open().unwrap_err().contains("cannot read"));
        fs::write(secrets.path().join("rest-password"), "secret of rest-password\n\n").unwrap();
        assert!(Passwords::read(secrets.path()).unwrap_err().to_string().contains("one line that is not empty"));
    }
}
