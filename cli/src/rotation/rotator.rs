//! Both bundles of a cluster on disk, replaced together step by step.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Directory, FileSet, InternalBundle, RestBundle, RotationError, Validity, Way, random_password};

/// What a rotator does at each step.
#[derive(Debug, Clone)]
pub struct RotatorOptions {
    /// How many steps two processes may be apart and still accept each other.
    pub window: usize,
    /// Steps between two CAs of the REST endpoint; 0 = the CA stays.
    pub ca_every: u64,
    /// Consecutive steps done in the same way, before the next of [`Way::ALL`] has its turn.
    pub steps_per_way: u64,
    /// Host names and addresses in the server certificate of the REST endpoint.
    pub hosts: Vec<String>,
    /// Validity of the pairs and server certificates.
    pub validity: Validity,
}

impl Default for RotatorOptions {
    fn default() -> Self {
        Self {
            window: 3,
            ca_every: 10,
            steps_per_way: 3,
            hosts: LOOPBACK.map(str::to_owned).to_vec(),
            validity: Validity::days(1),
        }
    }
}

/// The names under which a loopback cluster is reached.
pub(crate) const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The bundles `internal` and `rest` below one directory. Passwords change with every step, too.
#[derive(Debug)]
pub struct Rotator {
    options: RotatorOptions,
    internal: (InternalBundle, Directory),
    rest: (RestBundle, Directory),
    /// The coming steps, made ahead so that a replacement takes no longer than writing files.
    coming: VecDeque<Coming>,
    /// Fingerprints of the certificates on disk.
    on_disk: (String, String),
    step: u64,
}

/// A step that is made and not yet on disk.
#[derive(Debug)]
struct Coming {
    internal: FileSet,
    rest: FileSet,
    /// Of its certificates, internal and REST.
    fingerprints: (String, String),
}

/// One step done.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// From 1; step 0 is what [`Rotator::create`] wrote.
    pub step: u64,
    /// How the files were replaced.
    pub way: Way,
    /// The internal bundle's new certificate.
    pub internal: Replaced,
    /// The REST bundle's new certificate.
    pub rest: Replaced,
}

/// A certificate that has come into force on disk.
#[derive(Debug, Clone)]
pub struct Replaced {
    /// SHA-256 of the certificate, lower-case hex.
    pub fingerprint: String,
    /// When the last file of the bundle was in place.
    pub at: Instant,
}

impl Rotator {
    /// Writes step 0 to `internal/` and `rest/` below `directory`.
    pub fn create(directory: &Path, options: RotatorOptions) -> Result<Self, RotationError> {
        let internal = InternalBundle::new(options.window, options.validity)?;
        let rest = RestBundle::new(options.hosts.clone(), options.ca_every, options.validity)?;
        let internal_files = internal.files(&random_password())?;
        let rest_files = rest.files(&random_password())?;
        let internal_directory = Directory::create(&directory.join("internal"), internal_files)?;
        let rest_directory = Directory::create(&directory.join("rest"), rest_files)?;
        Ok(Self {
            options,
            on_disk: (internal.identity().fingerprint(), rest.identity().fingerprint()),
            internal: (internal, internal_directory),
            rest: (rest, rest_directory),
            coming: VecDeque::new(),
            step: 0,
        })
    }

    /// What a `config.yaml` says about both bundles.
    pub fn settings(&self) -> Vec<(String, String)> {
        let (internal, rest) = (self.internal.1.path(), self.rest.1.path());
        let mut settings = InternalBundle::settings(internal, internal);
        settings.extend(RestBundle::settings(rest, rest));
        settings
    }

    /// The CA certificates of the REST endpoint, for curl.
    pub fn ca_pem(&self) -> PathBuf {
        self.rest.1.path().join(RestBundle::CA_PEM)
    }

    /// SHA-256 of the certificates on disk, internal and REST.
    pub fn on_disk(&self) -> (&str, &str) {
        (&self.on_disk.0, &self.on_disk.1)
    }

    /// Makes the next step's keys and stores, which takes some ten milliseconds, ahead of [`Rotator::rotate`]. Returns the
    /// fingerprints of its certificates, internal and REST: somebody may see them before `rotate` has returned.
    pub fn prepare(&mut self) -> Result<(String, String), RotationError> {
        self.prepare_many(1)?;
        Ok(self.coming.front().map(|coming| coming.fingerprints.clone()).unwrap_or_default())
    }

    /// Makes so many of the next steps, where the work is not to fall between them.
    pub fn prepare_many(&mut self, steps: usize) -> Result<(), RotationError> {
        while self.coming.len() < steps {
            let coming = self.make()?;
            self.coming.push_back(coming);
        }
        Ok(())
    }

    fn make(&mut self) -> Result<Coming, RotationError> {
        self.internal.0.advance()?;
        self.rest.0.advance()?;
        Ok(Coming {
            internal: self.internal.0.files(&random_password())?,
            rest: self.rest.0.files(&random_password())?,
            fingerprints: (self.internal.0.identity().fingerprint(), self.rest.0.identity().fingerprint()),
        })
    }

    /// Replaces both bundles on disk.
    pub fn rotate(&mut self) -> Result<Rotation, RotationError> {
        let Coming { internal, rest, fingerprints } = match self.coming.pop_front() {
            Some(coming) => coming,
            None => self.make()?,
        };
        self.on_disk = fingerprints;
        let way = self.way();
        self.step += 1;
        self.internal.1.replace(internal, way)?;
        let internal = Replaced { fingerprint: self.on_disk.0.clone(), at: Instant::now() };
        self.rest.1.replace(rest, way)?;
        let rest = Replaced { fingerprint: self.on_disk.1.clone(), at: Instant::now() };
        Ok(Rotation { step: self.step, way, internal, rest })
    }

    fn way(&self) -> Way {
        let turn = self.step / self.options.steps_per_way.max(1);
        let count = Way::ALL.len() as u64;
        Way::ALL[(turn % count) as usize]
    }
}
