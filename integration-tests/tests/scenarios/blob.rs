//! The blob server, where other implementations of FLIP-523 break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use integration_tests::{Client, Cluster, Internal, KEYSTORE, Port, Secured, within};
use proto::blob::{Request, Response};
use tidemill::rotation::Way;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::upload::{Upload, greeted, response};

#[tokio::test]
async fn the_first_client_after_a_renewal_gets_the_new_certificate() {
    const RENEWALS: usize = 12;
    let (client, mut current) = (Internal::pair(), Internal::pair());
    let builder = Cluster::builder().task_managers(0);
    let mut secured = Secured::with(builder, &current, &[&current, &client]).await;
    let address = secured.cluster.process("blob-server").address(Port::Blob);
    for _ in 0..RENEWALS {
        let next = Internal::pair();
        secured.internal.replace(&next, &[&current, &next, &client], Way::InPlace);
        // Nobody connects before: the log says when it is done.
        secured.cluster.process("blob-server").logs(&next.fingerprint()).await;
        let first = Client::new(Some(&client)).converse(Port::Blob, address).await.unwrap();
        assert_eq!(first.certificate, next.fingerprint());
        assert!(first.answered);
        current = next;
    }
}

#[tokio::test]
async fn a_transfer_under_way_is_not_cut_by_a_renewal() {
    const HALF: usize = 3 << 20;
    let (peer, old, new) = (Internal::pair(), Internal::pair(), Internal::pair());
    // Every connection is told to go, and the grace is longer than any transfer.
    let builder = Cluster::builder()
        .task_managers(0)
        .set("security.ssl.reload.established-connections", "renew")
        .set("security.ssl.reload.drain-grace", "1 h");
    let mut secured = Secured::with(builder, &old, &[&old, &peer]).await;
    let address = secured.cluster.process("blob-server").address(Port::Blob);
    let body = vec![7; 2 * HALF];
    let client = Client::new(Some(&peer));
    let upload = Upload::begin(&client, address, body.clone()).await;

    secured.internal.replace(&new, &[&old, &new, &peer], Way::InPlace);
    secured.cluster.process("blob-server").logs(&new.fingerprint()).await;
    let newcomer = client.converse(Port::Blob, address).await.unwrap();
    assert_eq!(newcomer.certificate, new.fingerprint());

    let digest = upload.digest;
    assert_eq!(within("the transfer", upload.finish()).await, Response::Stored);

    let mut get = greeted(&client, address).await;
    get.write_all(&Request::Get { digest }.encode()).await.unwrap();
    assert_eq!(response(&mut get).await, Response::Blob { length: body.len() as u64 });
    let mut stored = vec![0; body.len()];
    get.read_exact(&mut stored).await.unwrap();
    assert!(stored == body);
}

#[tokio::test]
async fn a_half_written_store_does_not_end_the_blob_server() {
    let (client, old, new) = (Internal::pair(), Internal::pair(), Internal::pair());
    let builder = Cluster::builder().task_managers(0);
    let mut secured = Secured::with(builder, &old, &[&old, &client]).await;
    let address = secured.cluster.process("blob-server").address(Port::Blob);
    let good = Internal::keystore(&new);
    secured.internal.overwrite(KEYSTORE, &good[..good.len() / 2]);
    secured.cluster.process("blob-server").logs("reload failed").await;
    for _ in 0..3 {
        let served = Client::new(Some(&client)).converse(Port::Blob, address).await.unwrap();
        assert_eq!(served.certificate, old.fingerprint());
        assert!(served.answered);
    }
    secured.internal.replace(&new, &[&old, &new, &client], Way::InPlace);
    secured.cluster.process("blob-server").logs(&new.fingerprint()).await;
    let served = Client::new(Some(&client)).converse(Port::Blob, address).await.unwrap();
    assert_eq!(served.certificate, new.fingerprint());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_refused_or_reset_under_a_storm_of_connects_during_renewals() {
    const RENEWALS: usize = 20;
    const CLIENTS: usize = 2;
    let (client, mut current) = (Internal::pair(), Internal::pair());
    let builder = Cluster::builder().task_managers(0);
    let mut secured = Secured::with(builder, &current, &[&current, &client]).await;
    let address = secured.cluster.process("blob-server").address(Port::Blob);
    let over = Arc::new(AtomicBool::new(false));
    let storm: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, over) = (Client::new(Some(&client)), Arc::clone(&over));
            tokio::spawn(async move {
                let mut served = 0;
                while !over.load(Ordering::Relaxed) {
                    let talk = client.converse(Port::Blob, address).await;
                    assert!(talk.unwrap_or_else(|error| panic!("connection {served}: {error}")).answered);
                    served += 1;
                }
                served
            })
        })
        .collect();
    for _ in 0..RENEWALS {
        let next = Internal::pair();
        secured.internal.replace(&next, &[&current, &next, &client], Way::InPlace);
        secured.cluster.process("blob-server").logs(&next.fingerprint()).await;
        current = next;
    }
    over.store(true, Ordering::Relaxed);
    for client in storm {
        assert!(client.await.unwrap() > 0);
    }
    let report = secured.cluster.tls().await;
    let blob = report.processes.iter().find(|process| process.process == "blob-server").unwrap();
    // Two generations in quick succession may share a socket.
    assert!(blob.endpoints[0].listener_rebinds > RENEWALS as u64 / 2, "{:?}", blob.endpoints[0]);
}
