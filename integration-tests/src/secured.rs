//! A cluster with mutual TLS inside and HTTPS outside, and the files behind it.

use rest_gateway::dto::TlsReport;
use tidemill::rotation::{Identity, Way};

use crate::{Builder, Client, Cluster, Internal, Port, Rest};

/// A secured cluster whose files a test replaces.
#[derive(Debug)]
pub struct Secured {
    /// Its processes.
    pub cluster: Cluster,
    /// The internal bundle's files.
    pub internal: Internal,
    /// The REST endpoint's files.
    pub rest: Rest,
}

impl Secured {
    /// Starts one that follows its files, presents `identity` and trusts `trusted`.
    pub async fn start(identity: &Identity, trusted: &[&Identity]) -> Self {
        Self::with(Cluster::builder(), identity, trusted).await
    }

    /// The same with further settings.
    pub async fn with(builder: Builder, identity: &Identity, trusted: &[&Identity]) -> Self {
        Self::still(builder.set("security.ssl.reload", "true"), identity, trusted).await
    }

    /// One that does not follow its files unless `builder` says so.
    pub async fn still(builder: Builder, identity: &Identity, trusted: &[&Identity]) -> Self {
        let internal = Internal::create(&builder.scratch().join("internal"), identity, trusted);
        let rest = Rest::create(&builder.scratch().join("rest"));
        let builder = builder.set_all(internal.settings()).set_all(rest.settings());
        Self { cluster: builder.start().await, internal, rest }
    }

    /// Replaces the internal bundle and waits until every process has taken it over.
    pub async fn rotate(&mut self, identity: &Identity, trusted: &[&Identity], way: Way) -> TlsReport {
        self.internal.replace(identity, trusted, way);
        self.cluster.follows(&identity.fingerprint(), &self.rest.fingerprint()).await
    }

    /// Connects to every port of every process, as `client`, and checks that the server talks to us and presents the
    /// internal certificate with this fingerprint, at the REST port the one on disk.
    pub async fn every_port_presents(&self, client: &Client, internal: &str) {
        for process in self.cluster.processes() {
            for (port, address) in process.ports() {
                let expected = if port == Port::Rest { self.rest.fingerprint() } else { internal.to_owned() };
                let seen = client.converse(port, address).await;
                let seen = seen.unwrap_or_else(|error| panic!("{} {port:?}: {error}", process.name()));
                assert_eq!(seen.certificate, expected, "{} {port:?}", process.name());
                assert!(seen.answered, "{} {port:?} says nothing", process.name());
            }
        }
    }

    /// Runs a job whose exchange crosses the data plane, and checks its result.
    pub async fn runs_a_job(&self) {
        self.cluster.runs_a_job().await;
    }
}
