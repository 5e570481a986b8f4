//! An internal identity on disk that changes: a self-signed pair as shared secret, as Flink recommends.

use std::time::Duration;

use tempfile::TempDir;
use tls_common::{
    BundleOptions, ClientAuth, ConnectionPolicy, Endpoint, EstablishedConnections, HandshakeLimits, Password,
    ReloadOptions, StoreOptions, TlsContext,
};

pub(super) struct Stores {
    dir: TempDir,
    trusted: Vec<String>,
    /// Pairs that are trusted at once.
    window: usize,
}

impl Stores {
    /// With each key pair, the one before stays trusted.
    pub(super) fn new() -> Self {
        Self::trusting(2)
    }

    /// With the last so many pairs trusted.
    pub(super) fn trusting(window: usize) -> Self {
        let mut stores = Self { dir: tempfile::tempdir().unwrap(), trusted: Vec::new(), window };
        stores.rotate();
        stores
    }

    /// A fresh key pair.
    pub(super) fn rotate(&mut self) {
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "flink.internal");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        self.trusted.push(certificate.clone());
        if self.trusted.len() > self.window {
            self.trusted.remove(0);
        }
        self.replace("trust.pem", &self.trusted.concat());
        self.replace("identity.pem", &format!("{}{certificate}", key.serialize_pem()));
    }

    /// A data plane endpoint that moves every connection to each new generation. It reloads when told to.
    pub(super) async fn endpoint(&self) -> Endpoint {
        let policy = ConnectionPolicy { established: EstablishedConnections::Renew, ..ConnectionPolicy::default() };
        self.endpoint_with(policy).await
    }

    /// The same with another policy.
    pub(super) async fn endpoint_with(&self, policy: ConnectionPolicy) -> Endpoint {
        let mut options = BundleOptions::new("internal");
        options.keystore = Some(StoreOptions::new(self.dir.path().join("identity.pem"), Password::None));
        options.truststore = Some(StoreOptions::new(self.dir.path().join("trust.pem"), Password::None));
        options.client_auth = ClientAuth::Required;
        options.verify_hostname = false;
        let reload = ReloadOptions {
            quiet_period: Duration::from_millis(1),
            max_delay: Duration::from_millis(10),
            poll_interval: Duration::from_secs(3600),
        };
        let context = TlsContext::load(options, Some(reload)).await.unwrap();
        Endpoint::new("data", Some(context), policy, HandshakeLimits::default())
    }

    fn replace(&self, name: &str, content: &str) {
        let path = self.dir.path().join(name);
        let new = path.with_extension("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, path).unwrap();
    }
}
