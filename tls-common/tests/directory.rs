//! A truststore that is a directory, and a key in a file of its own, followed while they change.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use rustls::pki_types::{CertificateDer, UnixTime};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use support::{Pair, quick, serves};
use tls_common::{BundleOptions, ClientAuth, Password, StoreOptions, TlsContext};

/// Key and chain in two files, trust in a directory: what a Kubernetes secret looks like.
fn options(root: &Path) -> BundleOptions {
    let mut options = BundleOptions::new("internal");
    let mut keystore = StoreOptions::new(root.join("tls.crt"), Password::None);
    keystore.private_key = Some(root.join("tls.key"));
    options.keystore = Some(keystore);
    options.truststore = Some(StoreOptions::new(root.join("ca"), Password::None));
    options.client_auth = ClientAuth::Required;
    options.verify_hostname = false;
    options
}

fn write_identity(root: &Path, pair: &Pair) {
    fs::write(root.join("tls.crt"), &pair.cert_pem).unwrap();
    fs::write(root.join("tls.key"), &pair.key_pem).unwrap();
}

fn trusts(context: &TlsContext, pair: &Pair) -> bool {
    context.current().judge_client(&[CertificateDer::from(pair.cert.clone())], UnixTime::now()).is_ok()
}

/// Waits for generation `number`. The bound only ends a test that has failed.
async fn generation(context: &TlsContext, number: u64) {
    support::until(context, |status| status.generation >= number).await;
    assert_eq!(context.status().generation, number);
}

#[tokio::test]
async fn certificates_added_to_removed_from_and_replaced_in_the_directory_are_followed() {
    let root = tempfile::tempdir().unwrap();
    let (own, friend, next) = (Pair::new(), Pair::new(), Pair::new());
    let ca = root.path().join("ca");
    fs::create_dir(&ca).unwrap();
    write_identity(root.path(), &own);
    fs::write(ca.join("own.pem"), &own.cert_pem).unwrap();
    fs::write(ca.join("notes.txt"), "nobody's business").unwrap();
    let context = TlsContext::load(options(root.path()), Some(quick())).await.unwrap();
    assert!(trusts(&context, &own) && !trusts(&context, &friend));
    fs::write(ca.join("friend.cer"), &friend.cert).unwrap();
    generation(&context, 2).await;
    assert!(trusts(&context, &own) && trusts(&context, &friend));
    fs::remove_file(ca.join("friend.cer")).unwrap();
    generation(&context, 3).await;
    assert!(trusts(&context, &own) && !trusts(&context, &friend));
    // A file that holds no certificate makes no generation: the next number is that of the next real change.
    fs::write(ca.join("notes.txt"), "other notes").unwrap();
    fs::write(ca.join(".own.tmp"), own.cert_pem.clone() + &next.cert_pem).unwrap();
    fs::rename(ca.join(".own.tmp"), ca.join("own.pem")).unwrap();
    support::until(&context, |_| trusts(&context, &next)).await;
    let before = context.status().generation;
    write_identity(root.path(), &next);
    serves(&context, &next).await;
    assert_eq!(context.status().generation, before + 1, "key and chain in one step");
}

#[tokio::test]
async fn links_of_the_directory_are_followed_to_where_they_lead() {
    let root = tempfile::tempdir().unwrap();
    let (own, friend) = (Pair::new(), Pair::new());
    write_identity(root.path(), &own);
    for directory in ["ca", "ca/..1", "ca/..2", "elsewhere"] {
        fs::create_dir(root.path().join(directory)).unwrap();
    }
    let ca = root.path().join("ca");
    fs::write(ca.join("..1/ca.crt"), &own.cert_pem).unwrap();
    fs::write(ca.join("..2/ca.crt"), own.cert_pem.clone() + &friend.cert_pem).unwrap();
    symlink("..1", ca.join("..data")).unwrap();
    symlink("..data/ca.crt", ca.join("ca.crt")).unwrap();
    fs::write(root.path().join("elsewhere/other.pem"), &own.cert_pem).unwrap();
    symlink("../elsewhere/other.pem", ca.join("0a1b2c3d.0")).unwrap();
    let context = TlsContext::load(options(root.path()), Some(quick())).await.unwrap();
    assert!(!trusts(&context, &friend));
    symlink("..2", ca.join("..data_tmp")).unwrap();
    fs::rename(ca.join("..data_tmp"), ca.join("..data")).unwrap();
    generation(&context, 2).await;
    assert!(trusts(&context, &friend), "a Kubernetes swap");
    let late = Pair::new();
    fs::write(root.path().join("elsewhere/other.tmp"), &late.cert_pem).unwrap();
    fs::rename(root.path().join("elsewhere/other.tmp"), root.path().join("elsewhere/other.pem")).unwrap();
    generation(&context, 3).await;
    assert!(trusts(&context, &late), "a change where only a link leads");
}
