//! The files of the two bundles, written the way a test says.

use std::fs;
use std::path::{Path, PathBuf};

use tidemill::rotation::{Directory, FileSet, Identity, RestBundle, Validity, Way, keystore, truststore};
use tls_common::Secret;

/// Name of the internal keystore's file.
pub const KEYSTORE: &str = "keystore.p12";
/// Name of the internal truststore's file.
pub const TRUSTSTORE: &str = "truststore.p12";
/// Password of every store.
pub const PASSWORD: &str = "changeit";

const REST_HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// The internal bundle: one identity for all processes, and whom they trust.
#[derive(Debug)]
pub struct Internal {
    directory: Directory,
}

impl Internal {
    /// Writes the stores into the new directory `path`.
    pub fn create(path: &Path, identity: &Identity, trusted: &[&Identity]) -> Self {
        Self { directory: Directory::create(path, internal_files(identity, trusted)).unwrap() }
    }

    /// A new key pair.
    pub fn pair() -> Identity {
        // One name for all, as in Flink's recipe: trust must tell them apart by key.
        Identity::self_signed("tidemill.internal", Validity::days(1)).unwrap()
    }

    /// Replaces both stores.
    pub fn replace(&mut self, identity: &Identity, trusted: &[&Identity], way: Way) {
        self.directory.replace(internal_files(identity, trusted), way).unwrap();
    }

    /// Writes one file in place, whatever it is.
    pub fn overwrite(&self, name: &str, bytes: &[u8]) {
        fs::write(self.file(name), bytes).unwrap();
    }

    /// One of the files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A keystore with `identity`.
    pub fn keystore(identity: &Identity) -> Vec<u8> {
        keystore("tidemill.internal", identity, &Secret::new(PASSWORD.to_owned())).unwrap()
    }

    /// A truststore with the certificates of `trusted`.
    pub fn truststore(trusted: &[&Identity]) -> Vec<u8> {
        let certificates = trusted.iter().map(|identity| identity.certificate());
        truststore("peer", certificates, &Secret::new(PASSWORD.to_owned())).unwrap()
    }

    /// What a `config.yaml` says about them.
    pub fn settings(&self) -> Vec<(String, String)> {
        Self::settings_for(&self.file(KEYSTORE), &self.file(TRUSTSTORE), PASSWORD)
    }

    /// What a `config.yaml` says about two stores with the same password.
    pub fn settings_for(keystore: &Path, truststore: &Path, password: &str) -> Vec<(String, String)> {
        let settings = [
            ("enabled", "true"),
            ("keystore", &keystore.display().to_string()),
            ("keystore-password", password),
            ("key-password", password),
            ("truststore", &truststore.display().to_string()),
            ("truststore-password", password),
        ];
        settings.map(|(key, value)| (format!("security.ssl.internal.{key}"), value.to_owned())).into()
    }
}

fn internal_files(identity: &Identity, trusted: &[&Identity]) -> FileSet {
    FileSet::from([
        (KEYSTORE.to_owned(), Internal::keystore(identity)),
        (TRUSTSTORE.to_owned(), Internal::truststore(trusted)),
    ])
}

/// The bundle of the REST endpoint: a CA that stays, and a server certificate that is renewed.
#[derive(Debug)]
pub struct Rest {
    bundle: RestBundle,
    directory: Directory,
    password: Secret,
}

impl Rest {
    /// Writes the stores into the new directory `path`.
    pub fn create(path: &Path) -> Self {
        let hosts = REST_HOSTS.map(str::to_owned).into();
        let bundle = RestBundle::new(hosts, 0, Validity::days(1)).unwrap();
        let password = Secret::new(PASSWORD.to_owned());
        let directory = Directory::create(path, bundle.files(&password).unwrap()).unwrap();
        Self { bundle, directory, password }
    }

    /// Replaces the server certificate.
    pub fn renew(&mut self, way: Way) {
        self.bundle.advance().unwrap();
        self.directory.replace(self.bundle.files(&self.password).unwrap(), way).unwrap();
    }

    /// SHA-256 of the server certificate on disk.
    pub fn fingerprint(&self) -> String {
        self.bundle.identity().fingerprint()
    }

    /// The keystore's file.
    pub fn keystore(&self) -> PathBuf {
        self.directory.path().join("rest.keystore.p12")
    }

    /// The CA as PEM, for `curl --cacert`.
    pub fn ca_pem(&self) -> PathBuf {
        self.directory.path().join(RestBundle::CA_PEM)
    }

    /// What a `config.yaml` says about them.
    pub fn settings(&self) -> Vec<(String, String)> {
        RestBundle::settings(self.directory.path(), self.directory.path())
    }
}
