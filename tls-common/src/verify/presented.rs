//! The certificate that the peer of the handshake under way has shown, kept for the audit record: when a handshake
//! fails, rustls gives it up together with the session.
//!
//! rustls calls its verifiers from within the poll of the handshake's future, so a task-local value finds the way from
//! there back to who awaits it. (A verifier per connection would do too, but clients resume sessions only under the
//! verifier they were made with.) A handshake that nobody follows, such as the canary's, notes nothing.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;

tokio::task_local! {
    static UNDER_WAY: Presented;
}

/// What the peer of one handshake has shown so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presented(Arc<OnceLock<CertificateDer<'static>>>);

impl Presented {
    /// Awaits `handshake` and keeps what its verifiers [`note`].
    pub(crate) async fn during<F: Future>(&self, handshake: F) -> F::Output {
        UNDER_WAY.scope(self.clone(), handshake).await
    }

    /// The peer's own certificate, believed or not; its owner may not have proved anything yet.
    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.0.get()
    }
}

/// The peer of this task's handshake has shown `leaf`. The first one stays.
pub(crate) fn note(leaf: &CertificateDer<'_>) {
    // An error means that nobody follows this handshake, or that the certificate is there already.
    let _ = UNDER_WAY.try_with(|presented| presented.0.set(leaf.clone().into_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_handshake_keeps_its_own_certificate_although_they_alternate_in_one_task() {
        let (one, other, none) = (Presented::default(), Presented::default(), Presented::default());
        let shows = async |bytes: &'static [u8]| {
            tokio::task::yield_now().await;
            note(&CertificateDer::from(bytes));
            tokio::task::yield_now().await;
            note(&CertificateDer::from(b"later".as_slice()));
        };
        tokio::join!(one.during(shows(b"one")), other.during(shows(b"other")), none.during(async {}));
        let leaf = |presented: &Presented| presented.leaf().map(|leaf| leaf.to_vec());
        assert_eq!((leaf(&one), leaf(&other), leaf(&none)), (Some(b"one".into()), Some(b"other".into()), None));
        note(&CertificateDer::from(b"nobody follows".as_slice()));
    }
}
