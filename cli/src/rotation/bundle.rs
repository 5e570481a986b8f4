//! The files of the two bundles, step by step, with trust handed over from step to step.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use tls_common::Secret;

use super::{Authority, FileSet, Identity, RotationError, Validity, keystore, truststore};

/// The internal identity: one self-signed pair per step, shared by all processes.
///
/// At step k the keystore holds pair k, and the truststore the certificates of the steps k-`window` to k+`window`. With
/// a window of 0 it holds that of step k only. They are files of their own, other than in Flink's recipe, so that trust
/// can be handed over: the next certificate goes into every truststore before the first keystore changes.
#[derive(Debug)]
pub struct InternalBundle {
    window: usize,
    validity: Validity,
    /// Oldest first, at most 2 x `window` + 1; the coming `window` pairs are made ahead.
    identities: VecDeque<Identity>,
    /// Index of the current identity.
    current: usize,
    /// What a bundle before this one trusted, and for how many steps that goes on.
    inherited: (Vec<CertificateDer<'static>>, usize),
}

impl InternalBundle {
    /// The bundle at step 0.
    pub fn new(window: usize, validity: Validity) -> Result<Self, RotationError> {
        let identities = (0..=window).map(|_| Identity::self_signed(COMMON_NAME, validity));
        let identities = identities.collect::<Result<VecDeque<_>, _>>()?;
        Ok(Self { window, validity, identities, current: 0, inherited: (Vec::new(), 0) })
    }

    /// The bundle at the step whose pair is `identity`, the coming ones made anew. What was `trusted` until now stays so
    /// for as many steps as the window has: somebody may still present the pair before.
    pub(super) fn resume(
        identity: Identity,
        trusted: Vec<CertificateDer<'static>>,
        window: usize,
        validity: Validity,
    ) -> Result<Self, RotationError> {
        let mut bundle = Self::new(window, validity)?;
        bundle.inherited = (trusted, window);
        bundle.inherited.0.retain(|certificate| certificate != identity.certificate());
        bundle.identities[0] = identity;
        Ok(bundle)
    }

    /// Goes on to the next step.
    pub fn advance(&mut self) -> Result<(), RotationError> {
        self.identities.push_back(Identity::self_signed(COMMON_NAME, self.validity)?);
        match &mut self.inherited {
            (certificates, 0) => certificates.clear(),
            (_, steps) => *steps -= 1,
        }
        if self.current == self.window {
            self.identities.pop_front();
        } else {
            self.current += 1;
        }
        Ok(())
    }

    /// The pair that this step's keystore holds.
    pub fn identity(&self) -> &Identity {
        &self.identities[self.current]
    }

    /// This step's files, the stores locked with `password`, which is one of them.
    pub fn files(&self, password: &Secret) -> Result<FileSet, RotationError> {
        Ok(with(self.stores(password)?, INTERNAL_PASSWORD, password))
    }

    /// This step's files without the password.
    pub(super) fn stores(&self, password: &Secret) -> Result<FileSet, RotationError> {
        let certificates = self.identities.iter().map(Identity::certificate).chain(&self.inherited.0);
        Ok(FileSet::from([
            (INTERNAL_KEYSTORE.to_owned(), keystore(COMMON_NAME, self.identity(), password)?),
            (INTERNAL_TRUSTSTORE.to_owned(), truststore(COMMON_NAME, certificates, password)?),
        ]))
    }

    /// What a `config.yaml` says about the files when they are in `directory`, and the password's file in `passwords`.
    pub fn settings(directory: &Path, passwords: &Path) -> Vec<(String, String)> {
        let stores = [INTERNAL_KEYSTORE, INTERNAL_TRUSTSTORE].map(|name| directory.join(name));
        settings("security.ssl.internal", stores, &passwords.join(INTERNAL_PASSWORD))
    }
}

/// The identity of the REST endpoint: a server certificate per step, signed by a CA that is itself renewed.
///
/// The truststore and the PEM file hold the CA before, the current one and the next, so that clients that read them
/// anywhere within one CA's time accept the server before, during and after its renewal.
#[derive(Debug)]
pub struct RestBundle {
    hosts: Vec<String>,
    validity: Validity,
    /// Steps between two CAs; 0 = never, and then there is only the current one.
    ca_every: u64,
    /// Previous (if any), current, next (if ever renewed).
    authorities: VecDeque<Authority>,
    current: usize,
    leaf: Identity,
    step: u64,
}

impl RestBundle {
    /// The bundle at step 0, with a server certificate for `hosts` (DNS names and IP addresses).
    pub fn new(hosts: Vec<String>, ca_every: u64, validity: Validity) -> Result<Self, RotationError> {
        let count = if ca_every == 0 { 1 } else { 2 };
        let authorities = (0..count).map(|_| Authority::new(CA_NAME, CA_VALIDITY));
        let authorities = authorities.collect::<Result<VecDeque<_>, _>>()?;
        let leaf = authorities[0].issue(&hosts, validity)?;
        Ok(Self { hosts, validity, ca_every, authorities, current: 0, leaf, step: 0 })
    }

    /// The bundle at the step whose server certificate is `leaf`, with the CA as it is; it stays.
    pub(super) fn resume(authority: Authority, leaf: Identity, hosts: Vec<String>, validity: Validity) -> Self {
        Self { hosts, validity, ca_every: 0, authorities: VecDeque::from([authority]), current: 0, leaf, step: 0 }
    }

    /// Goes on to the next step: a new server certificate and, every `ca_every` steps, the next CA.
    pub fn advance(&mut self) -> Result<(), RotationError> {
        self.step += 1;
        if self.ca_every > 0 && self.step.is_multiple_of(self.ca_every) {
            self.authorities.push_back(Authority::new(CA_NAME, CA_VALIDITY)?);
            if self.current == 1 {
                self.authorities.pop_front();
            } else {
                self.current += 1;
            }
        }
        self.leaf = self.authorities[self.current].issue(&self.hosts, self.validity)?;
        Ok(())
    }

    /// The server certificate of this step.
    pub fn identity(&self) -> &Identity {
        &self.leaf
    }

    /// The CA that signed it.
    pub fn authority(&self) -> &Authority {
        &self.authorities[self.current]
    }

    /// This step's files, the stores locked with `password`, which is one of them.
    pub fn files(&self, password: &Secret) -> Result<FileSet, RotationError> {
        Ok(with(self.stores(password)?, REST_PASSWORD, password))
    }

    /// This step's files without the password.
    pub(super) fn stores(&self, password: &Secret) -> Result<FileSet, RotationError> {
        let certificates = self.authorities.iter().map(Authority::certificate);
        let pem: String = self.authorities.iter().map(Authority::pem).collect();
        Ok(FileSet::from([
            (REST_KEYSTORE.to_owned(), keystore("tidemill.rest", &self.leaf, password)?),
            (REST_TRUSTSTORE.to_owned(), truststore("tidemill.rest.ca", certificates, password)?),
            (REST_CA_PEM.to_owned(), pem.into_bytes()),
        ]))
    }

    /// What a `config.yaml` says about the files when they are in `directory`, and the password's file in `passwords`.
    pub fn settings(directory: &Path, passwords: &Path) -> Vec<(String, String)> {
        let stores = [REST_KEYSTORE, REST_TRUSTSTORE].map(|name| directory.join(name));
        settings("security.ssl.rest", stores, &passwords.join(REST_PASSWORD))
    }

    /// Name of the file with the CA certificates as PEM, for `curl --cacert`.
    pub const CA_PEM: &'static str = REST_CA_PEM;
}

fn settings(prefix: &str, [keystore, truststore]: [PathBuf; 2], password: &Path) -> Vec<(String, String)> {
    let [keystore, truststore, password] =
        [&keystore, &truststore, password].map(|path: &Path| path.display().to_string());
    let setting = |key: &str, value: &str| (format!("{prefix}.{key}"), value.to_owned());
    vec![
        setting("enabled", "true"),
        setting("keystore", &keystore),
        setting("keystore-password-file", &password),
        setting("key-password-file", &password),
        setting("truststore", &truststore),
        setting("truststore-password-file", &password),
    ]
}

fn with(mut stores: FileSet, name: &str, password: &Secret) -> FileSet {
    stores.insert(name.to_owned(), line(password));
    stores
}

/// A password's file.
pub(super) fn line(password: &Secret) -> Vec<u8> {
    format!("{}\n", password.expose()).into_bytes()
}

const COMMON_NAME: &str = "tidemill.internal";
pub(super) const CA_NAME: &str = "Tidemill REST CA";
const CA_VALIDITY: Validity = Validity::days(10 * 365);
pub(super) const INTERNAL_KEYSTORE: &str = "internal.keystore.p12";
pub(super) const INTERNAL_TRUSTSTORE: &str = "internal.truststore.p12";
pub(super) const INTERNAL_PASSWORD: &str = "internal-password";
pub(super) const REST_KEYSTORE: &str = "rest.keystore.p12";
pub(super) const REST_TRUSTSTORE: &str = "rest.truststore.p12";
pub(super) const REST_PASSWORD: &str = "rest-password";
pub(super) const REST_CA_PEM: &str = "rest-ca.pem";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use p12_keystore::Pkcs12Archive;

    use super::*;
    use crate::rotation::random_password;

    const STEPS: usize = 12;

    fn certificates(files: &FileSet, name: &str, password: &Secret) -> BTreeSet<Vec<u8>> {
        let archive = Pkcs12Archive::from_pkcs12(&files[name], password.expose()).unwrap();
        archive.certs.iter().map(|bag| bag.cert.as_der().to_vec()).collect()
    }

    #[test]
    fn processes_within_the_window_accept_each_other() {
        let (window, password) = (3, random_password());
        let mut bundle = InternalBundle::new(window, Validity::days(1)).unwrap();
        let mut steps = Vec::new();
        for _ in 0..STEPS {
            let trusted = certificates(&bundle.files(&password).unwrap(), INTERNAL_TRUSTSTORE, &password);
            steps.push((bundle.identity().certificate().to_vec(), trusted));
            bundle.advance().unwrap();
        }
        for (i, (presented, _)) in steps.iter().enumerate() {
            for (j, (_, trusted)) in steps.iter().enumerate() {
                assert_eq!(trusted.contains(presented), i.abs_diff(j) <= window, "step {i} seen at step {j}");
            }
        }
    }

    #[test]
    fn without_a_window_the_truststore_has_the_own_certificate_only() {
        let (bundle, password) = (InternalBundle::new(0, Validity::days(1)).unwrap(), random_password());
        let trusted = certificates(&bundle.files(&password).unwrap(), INTERNAL_TRUSTSTORE, &password);
        assert_eq!(trusted, BTreeSet::from([bundle.identity().certificate().to_vec()]));
        let settings = InternalBundle::settings(Path::new("/tls"), Path::new("/tls"));
        let value = |key: &str| settings.iter().find(|(name, _)| name.ends_with(key)).unwrap().1.clone();
        assert_ne!(value("internal.keystore"), value("internal.truststore"));
    }

    #[test]
    fn a_client_one_ca_behind_or_ahead_accepts_the_server() {
        let (ca_every, password) = (4, random_password());
        let mut bundle = RestBundle::new(vec!["localhost".to_owned()], ca_every, Validity::days(1)).unwrap();
        let mut steps = Vec::new();
        for _ in 0..STEPS {
            let trusted = certificates(&bundle.files(&password).unwrap(), REST_TRUSTSTORE, &password);
            steps.push((bundle.authority().certificate().to_vec(), trusted));
            bundle.advance().unwrap();
        }
        let distinct: BTreeSet<_> = steps.iter().map(|(authority, _)| authority).collect();
        assert_eq!(distinct.len(), 3);
        for (i, (authority, _)) in steps.iter().enumerate() {
            for (_, trusted) in &steps[i.saturating_sub(4)..(i + 5).min(STEPS)] {
                assert!(trusted.contains(authority));
            }
        }
    }

    #[test]
    fn every_step_has_a_fresh_key() {
        let mut bundle = RestBundle::new(vec!["localhost".to_owned()], 2, Validity::days(1)).unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..STEPS {
            assert!(seen.insert(bundle.identity().fingerprint()));
            bundle.advance().unwrap();
        }
    }
}
