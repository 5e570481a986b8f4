//! What a bundle says of itself: its files, what made it look at them, and how near the end its certificates are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::{Duration, SystemTime};
use support::log::Log;
use support::{Bundle, PASSWORD, Pair, eventually, keystore, quick, serves, until};
use tls_common::{BundleOptions, Password, ReloadOptions, StoreOptions, TlsContext};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A day before its end, after three months.
fn nearly_over() -> Pair {
    Pair::made(&[], |params| {
        let now = SystemTime::now();
        params.not_before = (now - 90 * DAY).into();
        params.not_after = (now + DAY).into();
    })
}

#[tokio::test]
async fn a_certificate_near_its_end_is_an_alarm_until_it_is_renewed() {
    let log = Log::json();
    let (old, new) = (nearly_over(), Pair::new());
    let bundle = Bundle::new(&old, &[&old, &new]);
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    let still = TlsContext::load(bundle.options(), None).await.unwrap();
    let quiet = TlsContext::load(BundleOptions { expiry_alarm_percent: 0, ..bundle.options() }, None).await.unwrap();

    let status = context.status();
    let alarm = status.alarm.unwrap();
    assert!(alarm.starts_with("our certificate is near its end"), "{alarm}");
    assert!(alarm.contains("is this a subPath or single-file mount?"), "{alarm}");
    let left = status.expires_in.unwrap();
    assert!((1..=24 * 3600).contains(&left), "{left} s");
    assert_eq!(status.trust_not_after, status.not_after, "the older of the two in the truststore");
    assert!(still.status().alarm.unwrap().contains("restart"));
    assert_eq!(quiet.status().alarm, None);
    let warnings = || log.events("tls_common::context::expiry");
    eventually("both alarms are in the log", || warnings().len() >= 2).await;
    let lines = warnings();
    assert!(lines.iter().any(|line| line["alarm"] == alarm.as_str()), "{lines:?}");

    std::fs::write(bundle.keystore(), b"no keystore").unwrap();
    until(&context, |status| status.alarm.as_ref().is_some_and(|alarm| alarm.contains("cannot be used"))).await;
    std::fs::write(bundle.keystore(), keystore(&new, PASSWORD)).unwrap();
    serves(&context, &new).await;
    assert_eq!(context.status().alarm, None);
    let is_over = || log.written().contains("far from their end again");
    eventually("the end of the alarm is in the log", is_over).await;
}

#[tokio::test]
async fn the_status_says_what_made_us_look() {
    let (old, new, newer) = (Pair::new(), Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old, &new, &newer]);
    let source = |source: &'static str| {
        move |status: &tls_common::BundleStatus| {
            status.last_look_source.as_deref() == Some(source) && status.last_look.is_some()
        }
    };
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    // The directories that are watched from now on may have changed the instant before.
    until(&context, source("event")).await;
    context.reload_now();
    until(&context, source("manual")).await;
    bundle.write_in_place(&new, &[&old, &new, &newer]);
    serves(&context, &new).await;
    until(&context, source("event")).await;

    // Nothing happens any more, and it is looked at all the same.
    let often = ReloadOptions { poll_interval: Duration::from_millis(20), ..quick() };
    let polling = TlsContext::load(bundle.options(), Some(often)).await.unwrap();
    until(&polling, source("poll")).await;
    let still = TlsContext::load(bundle.options(), None).await.unwrap();
    assert_eq!((still.status().last_look, still.status().last_look_source), (None, None));
}

#[tokio::test]
async fn equal_files_have_equal_digests_wherever_they_lie_and_no_password_goes_into_them() {
    let (pair, other) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&pair, &[&pair]);
    let copy = Bundle::new(&other, &[&other]);
    for (from, to) in [(bundle.keystore(), copy.keystore()), (bundle.truststore(), copy.truststore())] {
        std::fs::copy(from, to).unwrap();
    }
    let digest = async |options: BundleOptions| TlsContext::load(options, None).await.unwrap().status().digest;
    let one = digest(bundle.options()).await;
    assert_eq!(one.len(), 64);
    assert_eq!(digest(copy.options()).await, one);
    let password_file = copy.dir.join("password");
    std::fs::write(&password_file, PASSWORD).unwrap();
    let mut by_file = copy.options();
    by_file.keystore = Some(StoreOptions::new(copy.keystore(), Password::File(password_file)));
    assert_eq!(digest(by_file).await, one, "a digest must not help to guess passwords");
    copy.write_in_place(&other, &[&other]);
    assert_ne!(digest(copy.options()).await, one);
}
