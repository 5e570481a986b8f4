//! What a TLS scanner by other people says of every kind of port.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use integration_tests::{Internal, KEYSTORE, PASSWORD, Port, Process, Scan, Secured, Sslyze, tool};
use serde_json::json;
use tokio::process::Command;

/// All we speak: forward secret and authenticated with the data.
const TLS_1_2: [&str; 3] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];
const TLS_1_3: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
/// Of those that the scanner knows; it does not know the post-quantum ones.
const CURVES: [&str; 3] = ["X25519", "secp256r1", "secp384r1"];

#[tokio::test]
async fn a_scanner_finds_only_strong_tls_on_every_kind_of_port() {
    let Some(sslyze) = Sslyze::find() else { return };
    if !tool("openssl", "version") {
        return;
    }
    let identity = Internal::pair();
    let secured = Secured::start(&identity, &[&identity]).await;
    let scratch = secured.cluster.scratch();
    let client = pem(&secured.internal.file(KEYSTORE), &scratch.join("client.pem")).await;
    let report = scratch.join("scan.json");
    let ports = secured.cluster.processes().iter().flat_map(Process::ports);
    let ports = ports.map(|(port, address)| (port.name(), (port, address))).collect::<BTreeMap<_, _>>();
    assert_eq!(ports.keys().copied().collect::<Vec<_>>(), ["blob", "data", "rest", "rpc"]);
    for (name, (port, address)) in ports {
        if port == Port::Rest {
            let scan = sslyze.scan(address, &client, &secured.rest.ca_pem(), &report).await;
            is_strong(name, &scan);
            assert_eq!(scan.certificate(), secured.rest.fingerprint());
            assert_eq!(scan.issues, BTreeMap::new());
        } else {
            let scan = sslyze.scan(address, &client, &client, &report).await;
            is_strong(name, &scan);
            assert_eq!(scan.certificate(), identity.fingerprint(), "{name}");
            // By Flink's recipe the internal certificate names no host, and nobody asks it to: that and nothing else.
            assert_eq!(scan.issues.keys().collect::<Vec<_>>(), ["certificate_path_validation"], "{:?}", scan.issues);
            let reason = scan.distrusts("Supplied CA file").unwrap();
            assert!(reason.contains("subjectAltName"), "{name}: {reason}");
        }
    }
    secured.runs_a_job().await;
}

fn is_strong(name: &str, scan: &Scan) {
    for version in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        assert_eq!(scan.suites(version), [""; 0], "{name} {version}");
    }
    for (version, suites) in [("tls_1_2", TLS_1_2), ("tls_1_3", TLS_1_3)] {
        assert_eq!(BTreeSet::from_iter(scan.suites(version)), BTreeSet::from(suites), "{name} {version}");
    }
    for (command, finding, expected) in [
        ("tls_compression", "supports_compression", json!(false)),
        ("tls_1_3_early_data", "supports_early_data", json!(false)),
        ("session_renegotiation", "supports_secure_renegotiation", json!(true)),
        ("session_renegotiation", "client_renegotiations_success_count", json!(0)),
        ("session_resumption", "session_id_resumption_result", json!("FULLY_SUPPORTED")),
        ("tls_extended_master_secret", "supports_ems_extension", json!(true)),
        ("tls_fallback_scsv", "supports_fallback_scsv", json!(true)),
        ("heartbleed", "is_vulnerable_to_heartbleed", json!(false)),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", json!(false)),
        ("robot", "robot_result", json!("NOT_VULNERABLE_RSA_NOT_SUPPORTED")),
    ] {
        assert_eq!(scan.of(command)[finding], expected, "{name} {command}: {}", scan.of(command));
    }
    let curves = scan.of("elliptic_curves")["supported_curves"].as_array().unwrap();
    let curves = curves.iter().map(|curve| curve["name"].as_str().unwrap());
    assert_eq!(BTreeSet::from_iter(curves), BTreeSet::from(CURVES), "{name}");
}

/// Writes the key pair of a keystore in PEM.
async fn pem(keystore: &Path, pem: &Path) -> PathBuf {
    let mut command = Command::new("openssl");
    command.args(["pkcs12", "-nodes", "-passin", &format!("pass:{PASSWORD}"), "-in"]).arg(keystore);
    let written = command.arg("-out").arg(pem).output().await.unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    pem.to_owned()
}
