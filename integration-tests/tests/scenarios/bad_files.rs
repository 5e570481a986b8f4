//! Files that cannot be used keep the last good generation serving, everywhere, and everybody can see why.

use integration_tests::{Client, Cluster, Internal, KEYSTORE, PASSWORD, Secured, TRUSTSTORE};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, Pkcs12Archive, PrivateKey, PrivateKeyChain};
use rest_gateway::dto::TlsReport;
use tidemill::rotation::{Identity, Way, keystore};
use tls_common::{BundleStatus, Secret};

#[tokio::test]
async fn bad_internal_stores_leave_the_old_generation_serving_and_show_up_in_the_report() {
    let (old, new) = (Internal::pair(), Internal::pair());
    let mut secured = Secured::start(&old, &[&old]).await;
    let client = Client::new(Some(&old));
    let good = Internal::keystore(&old);
    let bad = [
        ("half-written", KEYSTORE, good[..good.len() / 2].to_vec()),
        ("wrong password", KEYSTORE, keystore("new", &new, &Secret::new("another".to_owned())).unwrap()),
        ("mismatched key and certificate", KEYSTORE, mismatched(&old, &new)),
        ("empty truststore", TRUSTSTORE, Internal::truststore(&[])),
    ];
    for (what, file, bytes) in bad {
        let before = std::fs::read(secured.internal.file(file)).unwrap();
        secured.internal.overwrite(file, &bytes);
        let report = reported(&secured, what, |bundle| bundle.last_error.is_some()).await;
        for bundle in internal(&report) {
            assert_eq!((bundle.generation, bundle.fingerprint.clone()), (1, Some(old.fingerprint())), "{what}");
            let error = bundle.last_error.as_deref().unwrap_or_default();
            assert!(error.contains(file), "{what}: the file is not named: {error}");
            assert!(!error.contains(PASSWORD), "{error}");
        }
        secured.every_port_presents(&client, &old.fingerprint()).await;
        secured.runs_a_job().await;
        secured.internal.overwrite(file, &before);
        reported(&secured, what, |bundle| bundle.last_error.is_none()).await;
    }
    let report = secured.rotate(&new, &[&old, &new], Way::InPlace).await;
    assert!(internal(&report).all(|bundle| bundle.last_error.is_none() && bundle.failed_reloads > 0));
    secured.every_port_presents(&Client::new(Some(&new)), &new.fingerprint()).await;
    secured.runs_a_job().await;
}

#[tokio::test]
async fn a_half_written_rest_keystore_leaves_https_as_it_is() {
    let identity = Internal::pair();
    let mut secured = Secured::with(Cluster::builder().task_managers(1), &identity, &[&identity]).await;
    let before = secured.rest.fingerprint();
    let good = std::fs::read(secured.rest.keystore()).unwrap();
    std::fs::write(secured.rest.keystore(), &good[..good.len() / 2]).unwrap();
    let has_error = |bundle: &BundleStatus| bundle.bundle != "rest" || bundle.last_error.is_some();
    let wanted = |endpoint: &tls_common::EndpointStatus| endpoint.bundle.as_ref().is_some_and(has_error);
    secured.cluster.tls_until("the gateway complains", wanted).await;
    secured.every_port_presents(&Client::new(Some(&identity)), &identity.fingerprint()).await;
    secured.rest.renew(Way::InPlace);
    assert_ne!(secured.rest.fingerprint(), before);
    secured.cluster.follows(&identity.fingerprint(), &secured.rest.fingerprint()).await;
    secured.every_port_presents(&Client::new(Some(&identity)), &identity.fingerprint()).await;
}

/// The report once all internal bundles in it fulfil `wanted`.
async fn reported(secured: &Secured, what: &str, wanted: impl Fn(&BundleStatus) -> bool) -> TlsReport {
    let wanted = |bundle: &BundleStatus| bundle.bundle != "internal" || wanted(bundle);
    secured.cluster.tls_until(what, |endpoint| endpoint.bundle.as_ref().is_some_and(wanted)).await
}

fn internal(report: &TlsReport) -> impl Iterator<Item = &BundleStatus> {
    let endpoints = report.processes.iter().flat_map(|process| &process.endpoints);
    endpoints.filter_map(|endpoint| endpoint.bundle.as_ref()).filter(|bundle| bundle.bundle == "internal")
}

/// The key of one pair with the certificate of another.
fn mismatched(key: &Identity, certificate: &Identity) -> Vec<u8> {
    let archive = Pkcs12Archive::from_pkcs12(&Internal::keystore(key), PASSWORD).unwrap();
    let key = PrivateKey::from_der(archive.keys[0].key.as_der()).unwrap();
    let certificate = Certificate::from_der(certificate.certificate()).unwrap();
    let mut store = KeyStore::new();
    store.add_entry("mixed", KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new("mixed", key, [certificate])));
    store.writer(PASSWORD).write().unwrap()
}
