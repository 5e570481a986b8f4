//! Bad files and bundles that are not followed. How files change: `faults.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use support::{Bundle, PASSWORD, Pair, keystore, quick, serves, truststore, until};
use tls_common::TlsContext;

async fn start(bundle: &Bundle) -> TlsContext {
    TlsContext::load(bundle.options(), Some(quick())).await.unwrap()
}

#[tokio::test]
async fn bad_files_keep_the_last_good_generation_and_say_why_until_a_good_one_comes() {
    let (old, new) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old]);
    let context = start(&bundle).await;
    let good = std::fs::read(bundle.keystore()).unwrap();
    let mut empty_trust = truststore(&[], PASSWORD);
    let half_written = good.get(..good.len() / 2).unwrap().to_vec();
    let wrong_password = keystore(&new, "another");
    for (file, bytes) in [
        (bundle.keystore(), half_written),
        (bundle.keystore(), wrong_password),
        (bundle.keystore(), Vec::new()),
        (bundle.truststore(), std::mem::take(&mut empty_trust)),
    ] {
        let before = std::fs::read(&file).unwrap();
        let failures = context.status().failed_reloads;
        std::fs::write(&file, bytes).unwrap();
        let status = until(&context, |status| status.failed_reloads > failures).await;
        assert_eq!((status.generation, status.fingerprint), (1, Some(old.fingerprint())));
        assert!(status.last_error.is_some());
        std::fs::write(&file, before).unwrap();
        until(&context, |status| status.last_error.is_none()).await;
    }
    bundle.write_in_place(&new, &[&new]);
    assert_eq!(serves(&context, &new).await, 2);
}

#[tokio::test]
async fn without_reload_nothing_is_watched_and_nothing_changes() {
    let (old, new) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old]);
    let still = TlsContext::load(bundle.options(), None).await.unwrap();
    let following = start(&bundle).await;
    bundle.write_in_place(&new, &[&new]);
    still.reload_now();
    serves(&following, &new).await;
    assert_eq!(still.status().generation, 1);
    assert!(!still.status().watching);
}
