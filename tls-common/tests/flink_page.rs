//! The keytool commands of Flink's SSL set-up page, word for word: the stores they make load and connect.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "support/tools.rs"]
mod tools;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tls_common::{BundleOptions, ClientAuth, Generation, Password, Secret, StoreKind, StoreOptions, TlsContext};

const INTERNAL: &str = r#"
keytool -genkeypair -alias flink.internal -keystore internal.keystore -dname "CN=flink.internal" -storepass internal_store_password -keyalg RSA -keysize 4096 -storetype PKCS12
"#;

const REST: &str = r#"
keytool -genkeypair -alias flink.rest -keystore rest.keystore -dname "CN=myhost.company.org" -ext "SAN=dns:myhost.company.org,ip:10.0.2.15" -storepass rest_keystore_password -keyalg RSA -keysize 4096 -storetype PKCS12
keytool -exportcert -keystore rest.keystore -alias flink.rest -storepass rest_keystore_password -file flink.cer
keytool -importcert -keystore rest.truststore -alias flink.rest -storepass rest_truststore_password -file flink.cer -noprompt
"#;

const REST_WITH_CA: &str = r#"
keytool -genkeypair -alias ca -keystore ca.keystore -dname "CN=Sample CA" -storepass ca_keystore_password -keyalg RSA -keysize 4096 -ext "bc=ca:true" -storetype PKCS12
keytool -exportcert -keystore ca.keystore -alias ca -storepass ca_keystore_password -file ca.cer
keytool -importcert -keystore ca.truststore -alias ca -storepass ca_truststore_password -file ca.cer -noprompt
keytool -genkeypair -alias flink.rest -keystore rest.signed.keystore -dname "CN=flink.company.org" -ext "SAN=dns:flink.company.org" -storepass rest_keystore_password -keyalg RSA -keysize 4096 -storetype PKCS12
keytool -certreq -alias flink.rest -keystore rest.signed.keystore -storepass rest_keystore_password -file rest.csr
keytool -gencert -alias ca -keystore ca.keystore -storepass ca_keystore_password -ext "SAN=dns:flink.company.org,ip:10.0.2.15" -infile rest.csr -outfile rest.cer
keytool -importcert -keystore rest.signed.keystore -storepass rest_keystore_password -file ca.cer -alias ca -noprompt
keytool -importcert -keystore rest.signed.keystore -storepass rest_keystore_password -file rest.cer -alias flink.rest -noprompt
"#;

/// As the page has them, and with the page's PKCS12 replaced by Java's older format (and the keys smaller: they are what
/// takes time).
const STORE_TYPES: [(&str, StoreKind); 2] = [("PKCS12", StoreKind::Pkcs12), ("JKS", StoreKind::Jks)];

/// Runs `script` in a new directory, or says that it cannot be.
fn run(script: &str, store_type: &str) -> Option<tempfile::TempDir> {
    if !tools::tool("keytool", "-help") {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = if store_type == "PKCS12" { script.to_owned() } else { in_type(script, store_type) };
    let output = Command::new("sh").args(["-ec", &script]).current_dir(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Some(directory)
}

/// The same commands with `-storetype` on each that makes a store.
fn in_type(script: &str, store_type: &str) -> String {
    let typed = |line: &str| match line.contains("-genkeypair") || line.contains("-importcert") {
        true => format!("{} -storetype {store_type}\n", line.replace(" -storetype PKCS12", "").replace("4096", "2048")),
        false => format!("{line}\n"),
    };
    script.trim().lines().map(typed).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A store of the page and its password.
fn store(directory: &Path, name: &str, kind: StoreKind, password: &str) -> StoreOptions {
    let password = Password::Inline(Secret::new(password.into()));
    StoreOptions { kind, ..StoreOptions::new(directory.join(name), password) }
}

/// The same, with the page's `key-password`.
fn keystore(directory: &Path, name: &str, kind: StoreKind, password: &str) -> StoreOptions {
    let store = store(directory, name, kind, password);
    StoreOptions { key_password: Some(store.password.clone()), ..store }
}

/// What the internal bundle is: both stores, mutual, without host names.
fn internal(store: StoreOptions) -> BundleOptions {
    let mut options = BundleOptions::new("internal");
    options.truststore = Some(StoreOptions { key_password: None, ..store.clone() });
    options.keystore = Some(store);
    options.client_auth = ClientAuth::Required;
    options.verify_hostname = false;
    options
}

async fn generation(options: BundleOptions) -> Arc<Generation> {
    TlsContext::load(options, None).await.unwrap().current()
}

/// A REST server with `keystore` as clients with `truststore` see it under the names it should and should not have.
async fn rest_connects(keystore: StoreOptions, truststore: StoreOptions, names: &[&str]) {
    let mut server = BundleOptions::new("rest");
    server.keystore = Some(keystore);
    let mut client = BundleOptions::new("rest-client");
    client.truststore = Some(truststore);
    let (client, server) = (generation(client).await, generation(server).await);
    for name in names {
        connect(&client, &server, name).unwrap();
    }
    connect(&client, &server, "other.company.org").unwrap_err();
}

/// A handshake in memory.
fn connect(client: &Generation, server: &Generation, name: &str) -> Result<(), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client.client_config()), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server.server_config().unwrap())).unwrap();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        transfer(&mut client, &mut server)?;
        transfer(&mut server, &mut client)?;
    }
    Ok(())
}

fn transfer<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut unread = bytes.as_slice();
    while !unread.is_empty() {
        to.read_tls(&mut unread).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

#[tokio::test]
async fn the_internal_recipe_connects_with_one_store_for_both() {
    for (name, kind) in STORE_TYPES {
        let Some(directory) = run(INTERNAL, name) else { return };
        let store = keystore(directory.path(), "internal.keystore", kind, "internal_store_password");
        let generation = generation(internal(store)).await;
        connect(&generation, &generation, "anything").unwrap();
    }
}

#[tokio::test]
async fn the_rest_recipe_with_a_self_signed_certificate_connects() {
    for (name, kind) in STORE_TYPES {
        let Some(directory) = run(REST, name) else { return };
        let directory = directory.path();
        let keystore = keystore(directory, "rest.keystore", kind, "rest_keystore_password");
        let names = ["myhost.company.org", "10.0.2.15"];
        rest_connects(keystore.clone(), store(directory, "rest.truststore", kind, "rest_truststore_password"), &names)
            .await;
        // What keytool exported on the way can be believed as it is.
        let exported = StoreOptions::new(directory.join("flink.cer"), Password::None);
        rest_connects(keystore, exported, &names).await;
    }
}

#[tokio::test]
async fn the_rest_recipe_with_a_ca_connects() {
    for (name, kind) in STORE_TYPES {
        let Some(directory) = run(REST_WITH_CA, name) else { return };
        let directory = directory.path();
        rest_connects(
            keystore(directory, "rest.signed.keystore", kind, "rest_keystore_password"),
            store(directory, "ca.truststore", kind, "ca_truststore_password"),
            &["flink.company.org", "10.0.2.15"],
        )
        .await;
    }
}
