//! The identities of a cluster in one directory, as `tidemill tls init` makes them: read back and checked.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use tls_common::Secret;

use super::bundle::{
    CA_NAME, INTERNAL_KEYSTORE, INTERNAL_PASSWORD, INTERNAL_TRUSTSTORE, REST_CA_PEM, REST_KEYSTORE, REST_PASSWORD,
    REST_TRUSTSTORE, line,
};
use super::directory::unread;
use super::store::{open_keystore, open_truststore};
use super::{
    Authority, FileSet, Identity, InternalBundle, RestBundle, RotationError, Validity, keystore, random_password,
};

/// What the stores are locked with.
#[derive(Debug)]
pub(crate) struct Passwords {
    pub(super) internal: Secret,
    pub(super) rest: Secret,
    /// Of the CA's key, which no server needs.
    pub(super) rest_ca: Secret,
}

impl Passwords {
    /// A new one each.
    pub(crate) fn random() -> Self {
        Self { internal: random_password(), rest: random_password(), rest_ca: random_password() }
    }

    /// What the files `internal-password`, `rest-password` and `rest-ca-password` in `directory` hold, a line each.
    ///
    /// # Errors
    /// One that cannot be read, or is empty.
    pub(crate) fn read(directory: &Path) -> Result<Self, RotationError> {
        let read = |name| password(&directory.join(name));
        Ok(Self { internal: read(INTERNAL_PASSWORD)?, rest: read(REST_PASSWORD)?, rest_ca: read(REST_CA_PASSWORD)? })
    }
}

/// One line: keytool would take the first of several, and the servers all of them.
fn password(path: &Path) -> Result<Secret, RotationError> {
    let text = fs::read_to_string(path).map(Secret::new).map_err(unread(path))?;
    let mut lines = text.expose().lines();
    match (lines.next(), lines.next()) {
        (Some(line), None) if !line.is_empty() => Ok(Secret::new(line.to_owned())),
        _ => Err(unusable(path, "a password is one line that is not empty")),
    }
}

/// The files of a new internal identity; the password is one of them where they are to be kept together.
pub(crate) fn internal_files(
    passwords: &Passwords,
    with_password: bool,
    validity: Validity,
) -> Result<FileSet, RotationError> {
    let bundle = InternalBundle::new(0, validity)?;
    if with_password { bundle.files(&passwords.internal) } else { bundle.stores(&passwords.internal) }
}

/// The files of a new identity of the REST endpoint and of the CA that has signed it.
pub(crate) fn rest_files(
    passwords: &Passwords,
    with_passwords: bool,
    hosts: Vec<String>,
    validity: Validity,
) -> Result<FileSet, RotationError> {
    let bundle = RestBundle::new(hosts, 0, validity)?;
    let authority = keystore("tidemill.rest.ca", &bundle.authority().identity(), &passwords.rest_ca)?;
    let mut files = if with_passwords { bundle.files(&passwords.rest) } else { bundle.stores(&passwords.rest) }?;
    files.insert(REST_CA.to_owned(), authority);
    if with_passwords {
        files.insert(REST_CA_PASSWORD.to_owned(), line(&passwords.rest_ca));
    }
    Ok(files)
}

/// Both identities of a directory, complete and fit for each other.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(super) internal: Identity,
    /// For internal connections.
    pub(super) trusted: Vec<CertificateDer<'static>>,
    pub(super) rest: Identity,
    /// That the REST certificate is for.
    pub(super) hosts: Vec<String>,
    pub(super) authority: Authority,
}

impl Kept {
    /// Whether any file of an identity is in `directory`.
    pub(crate) fn is_any_in(directory: &Path) -> bool {
        FILES.iter().chain([&REST_CA]).any(|name| directory.join(name).symlink_metadata().is_ok())
    }

    /// Reads what is in `directory`. A replacement under way does not disturb.
    ///
    /// # Errors
    /// A file that is missing, does not open with its password, or does not fit the others.
    pub(crate) fn open(directory: &Path, passwords: &Passwords) -> Result<Self, RotationError> {
        let path = |name: &str| directory.join(name);
        let key = |name, password| read(&path(name)).and_then(|bytes| open_keystore(&path(name), &bytes, password));
        let trust = |name, password| read(&path(name)).and_then(|bytes| open_truststore(&path(name), &bytes, password));
        let internal = key(INTERNAL_KEYSTORE, &passwords.internal)?;
        let trusted = trust(INTERNAL_TRUSTSTORE, &passwords.internal)?;
        contains(path(INTERNAL_TRUSTSTORE), &trusted, internal.certificate())?;
        let rest = key(REST_KEYSTORE, &passwords.rest)?;
        let hosts = rest.hosts();
        if hosts.is_empty() {
            return Err(unusable(&path(REST_KEYSTORE), "its certificate is for no host"));
        }
        let authority = key(REST_CA, &passwords.rest_ca)?;
        if rest.chain().last() != Some(authority.certificate()) || authority.common_name() != Some(CA_NAME.to_owned()) {
            return Err(unusable(&path(REST_CA), "it has not signed the certificate beside it"));
        }
        let authority = Authority::kept(CA_NAME, &authority)?;
        contains(path(REST_TRUSTSTORE), &trust(REST_TRUSTSTORE, &passwords.rest)?, authority.certificate())?;
        if read(&path(REST_CA_PEM))? != authority.pem().into_bytes() {
            return Err(unusable(&path(REST_CA_PEM), "it is not the CA of the certificate beside it"));
        }
        Ok(Self { internal, trusted, rest, hosts, authority })
    }

    /// SHA-256 of the certificates, internal and REST.
    pub(crate) fn fingerprints(&self) -> (String, String) {
        (self.internal.fingerprint(), self.rest.fingerprint())
    }
}

/// Reads a file whose directory may be swapped at any moment.
fn read(path: &Path) -> Result<Vec<u8>, RotationError> {
    let mut attempts = 1;
    loop {
        match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && attempts < READ_ATTEMPTS => attempts += 1,
            bytes => return bytes.map_err(unread(path)),
        }
    }
}

fn contains(
    path: PathBuf,
    trusted: &[CertificateDer<'static>],
    certificate: &CertificateDer<'static>,
) -> Result<(), RotationError> {
    if trusted.contains(certificate) {
        return Ok(());
    }
    Err(unusable(
        &path,
        "it does not trust the keystore beside it; only what `tidemill tls init` has made can be used here",
    ))
}

fn unusable(path: &Path, reason: &str) -> RotationError {
    RotationError::Unusable { path: path.to_owned(), reason: reason.to_owned() }
}

/// What is replaced at a renewal.
pub(super) const FILES: [&str; 5] =
    [INTERNAL_KEYSTORE, INTERNAL_TRUSTSTORE, REST_KEYSTORE, REST_TRUSTSTORE, REST_CA_PEM];
const REST_CA: &str = "rest-ca.p12";
const REST_CA_PASSWORD: &str = "rest-ca-password";
/// A swap hides a file for one system call at most.
const READ_ATTEMPTS: u32 = 3;
