//! Asking the blob server for its status without ever hanging up on it.
//!
//! Whoever asks waits only so long; the exchange goes on to its end by itself, within the client's own limits. Dropped
//! in the middle of a TLS handshake it would count as a failed one at the blob server, and page after page of a slow
//! cluster would begin another.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use blob_server::{BlobClient, BlobError};
use tls_common::EndpointStatus;
use tokio::{sync::watch, time::timeout};

type Answer = Result<Vec<EndpointStatus>, Arc<BlobError>>;

/// At most one exchange is under way; all who ask meanwhile get its answer.
#[derive(Debug)]
pub(crate) struct BlobStatus {
    client: BlobClient,
    patience: Duration,
    /// Of the newest exchange; `None` in it until it has ended.
    newest: Mutex<watch::Receiver<Option<Answer>>>,
}

impl BlobStatus {
    /// Whoever asks waits for `patience`.
    pub(crate) fn new(client: BlobClient, patience: Duration) -> Self {
        // Without its sender: nothing is under way.
        let newest = Mutex::new(watch::channel(None).1);
        Self { client: client.with_patience(patience), patience, newest }
    }

    /// What the blob server says of its endpoints.
    pub(crate) async fn ask(&self) -> Answer {
        let mut answer = self.under_way();
        let late =
            || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", self.patience.as_secs()));
        match timeout(self.patience, answer.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone().unwrap_or_else(|| Err(Arc::new(late().into()))),
            // It never panics, but were it to, nobody would ever answer.
            Ok(Err(_)) | Err(_) => Err(Arc::new(late().into())),
        }
    }

    /// The exchange that is under way, begun now if none is.
    fn under_way(&self) -> watch::Receiver<Option<Answer>> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let has_ended = newest.has_changed().is_err();
        if has_ended {
            let (ended, receiver) = watch::channel(None);
            *newest = receiver;
            let client = self.client.clone();
            tokio::spawn(async move { ended.send_replace(Some(client.status().await.map_err(Arc::new))) });
        }
        newest.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use config::{Configuration, tls};
    use proto::blob::{Greeting, Request, Response};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn listener_and_status() -> (TcpListener, BlobStatus) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = tls::internal_endpoint(&Configuration::default(), tls::Internal::Blob, None).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = BlobClient::new(endpoint.connector(&[]), "127.0.0.1".to_owned(), port);
        (listener, BlobStatus::new(client, Duration::from_millis(100)))
    }

    #[tokio::test]
    async fn whoever_has_waited_long_enough_leaves_the_exchange_to_its_end_and_others_get_its_answer() {
        let (listener, status) = listener_and_status().await;
        let late = status.ask().await.unwrap_err();
        assert!(late.to_string().contains("no answer within"), "{late}");
        assert!(status.ask().await.is_err(), "joins the same");

        let (mut connection, _) = listener.accept().await.unwrap();
        connection.write_all(&Greeting.encode()).await.unwrap();
        let mut request = [0; Request::LEN];
        connection.read_exact(&mut request).await.expect("it was not hung up");
        assert_eq!(Request::parse(&request).unwrap(), Request::Status);
        let mut under_way = status.under_way();
        connection.write_all(&Response::Report { length: 2 }.encode()).await.unwrap();
        connection.write_all(b"[]").await.unwrap();
        let answer = under_way.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(answer.unwrap().is_empty());
        assert!(
            tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err(),
            "there was one connection for all who asked"
        );
    }
}
