//! Who is not trusted, or not any more, gets nowhere.

use std::net::SocketAddr;

use integration_tests::{Client, Internal, OpenSsl, Port, Secured, tool};
use tidemill::rotation::{Identity, Way};

const VERSIONS: [(&str, &rustls::SupportedProtocolVersion); 2] =
    [("-tls1_2", &rustls::version::TLS12), ("-tls1_3", &rustls::version::TLS13)];

#[tokio::test]
async fn strangers_and_clients_without_a_certificate_are_refused_on_every_internal_port() {
    let (identity, stranger) = (Internal::pair(), Internal::pair());
    let secured = Secured::start(&identity, &[&identity]).await;
    for (name, port, address) in internal_ports(&secured) {
        for (version, protocol) in VERSIONS {
            let talk =
                async |client: Option<&Identity>| Client::speaking(client, &[protocol]).converse(port, address).await;
            let refusal = |refused: std::io::Result<integration_tests::Conversation>| {
                let refused = refused.map(|talk| format!("{name} {port:?} {version} let it in: {talk:?}"));
                refused.unwrap_err().to_string()
            };
            assert!(talk(Some(&identity)).await.unwrap().answered, "{name} {port:?} {version}");
            let (unknown, anonymous) = (refusal(talk(Some(&stranger)).await), refusal(talk(None).await));
            assert!(unknown.contains("fatal alert"), "{name} {port:?} {version}: {unknown}");
            assert!(anonymous.contains("fatal alert"), "{name} {port:?} {version}: {anonymous}");
        }
    }
    secured.runs_a_job().await;
}

#[tokio::test]
async fn openssl_without_a_trusted_certificate_is_refused_on_every_internal_port() {
    if !tool("openssl", "version") {
        return;
    }
    let (identity, stranger) = (Internal::pair(), Internal::pair());
    let secured = Secured::start(&identity, &[&identity]).await;
    for (name, port, address) in internal_ports(&secured) {
        for (version, _) in VERSIONS {
            let client = |who| OpenSsl::new(secured.cluster.scratch(), who, version);
            let welcome = client(Some(&identity)).converse(port, address).await;
            assert!(welcome.answered, "{name} {port:?} {version}: {}", welcome.output);
            for who in [Some(&stranger), None] {
                let refused = client(who).converse(port, address).await;
                assert!(!refused.answered && refused.output.contains("alert"), "{name} {port:?}: {}", refused.output);
            }
        }
    }
}

#[tokio::test]
async fn a_resumed_session_of_a_removed_peer_is_refused_in_tls_1_2_and_1_3() {
    if !tool("openssl", "version") {
        return;
    }
    let (identity, removed, next) = (Internal::pair(), Internal::pair(), Internal::pair());
    let mut secured = Secured::start(&identity, &[&identity, &removed]).await;
    let ports = internal_ports(&secured);
    let scratch = secured.cluster.scratch().to_owned();
    let session = |name: &str, port: Port, version: &str| scratch.join(format!("{name}-{}{version}", port.name()));
    for (name, port, address) in &ports {
        for (version, _) in VERSIONS {
            let peer = OpenSsl::new(&scratch, Some(&removed), version);
            let file = session(name, *port, version);
            let first = peer.converse_and_keep(*port, *address, &file).await;
            assert!(first.answered && !first.resumed, "{name} {port:?} {version}: {}", first.output);
            // While it is trusted it may resume: what is refused below is not refused for another reason.
            let again = peer.resume(*port, *address, &file).await;
            assert!(again.answered && again.resumed, "{name} {port:?} {version}: {}", again.output);
            // A ticket of TLS 1.3 is good for one use.
            peer.converse_and_keep(*port, *address, &file).await;
        }
    }
    secured.rotate(&next, &[&identity, &next], Way::RenameFromOutside).await;
    for (name, port, address) in &ports {
        for (version, _) in VERSIONS {
            let peer = OpenSsl::new(&scratch, Some(&removed), version);
            let refused = peer.resume(*port, *address, &session(name, *port, version)).await;
            assert!(!refused.answered && !refused.resumed, "{name} {port:?} {version}: {}", refused.output);
        }
    }
    secured.runs_a_job().await;
}

fn internal_ports(secured: &Secured) -> Vec<(String, Port, SocketAddr)> {
    let processes = secured.cluster.processes().iter();
    let ports = processes.flat_map(|process| process.ports().map(|(port, at)| (process.name().to_owned(), port, at)));
    ports.filter(|(_, port, _)| *port != Port::Rest).collect()
}
