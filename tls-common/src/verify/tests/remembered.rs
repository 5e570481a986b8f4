//! What is remembered of a verdict: at every moment a judge that has judged before says what a new one says.

use super::*;

/// The first seconds of 2031 and 2032.
const Y2031: u64 = 1_924_992_000;
const Y2032: u64 = 1_956_528_000;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn until(mut params: CertificateParams, year: i32) -> CertificateParams {
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    params
}

/// Judges asked at one moment after the other, in any order, against one that has no memory yet: one judge that is asked
/// everything, and for each two moments one that is asked at these alone, so that nothing older hides what the first of
/// them left behind.
fn agree(what: &str, trusted: &[CertificateDer<'static>], criteria: &Criteria, chain: &[CertificateDer<'static>]) {
    let around = |moment: u64| [moment - 1, moment, moment + 1];
    let moments = [1_800_000_000].into_iter().chain(around(Y2031)).chain(around(Y2032)).chain([2_000_000_000]);
    let moments: Vec<u64> = moments.collect();
    let warm = judge_by(trusted, criteria.clone());
    let mut believed = 0;
    for first in &moments {
        for second in &moments {
            let only = judge_by(trusted, criteria.clone());
            for moment in [*first, *second] {
                let judge = |judge: &Judge| judge.judge(&chain[0], &chain[1..], CLIENT, None, at(moment));
                let fresh = judge(&judge_by(trusted, criteria.clone()));
                assert_eq!(judge(&warm), fresh, "{what}: at {moment}, {first} and others before");
                assert_eq!(judge(&only), fresh, "{what}: at {moment}, only {first} before");
                believed += u32::from(fresh.is_ok());
            }
        }
    }
    let all = u32::try_from(2 * moments.len() * moments.len()).unwrap();
    assert!(believed > 0 && believed < all, "{what}: something ends, {believed} of {all}");
}

#[test]
fn a_verdict_ends_with_whatever_it_depends_on() {
    let root = Pair::self_signed(authority("root"));
    let (short, long) = (root.sign(until(authority("issuer"), 2031)), root.sign(until(authority("issuer"), 2033)));
    let under = |issuer: &Pair, year| [issuer.sign(until(leaf("own", &[]), year)).der(), issuer.der()];
    let by_root = root.sign(until(leaf("own", &[]), 2031));
    let plain = Criteria::default();
    let strict = Criteria { leniency: Leniency::STRICT, ..Criteria::default() };
    let expired = Criteria { leniency: Leniency { expired: true, ..Leniency::STRICT }, ..Criteria::default() };

    agree("the certificate's end", &[root.der()], &plain, &[by_root.der()]);
    agree("the certificate's end, under an issuer", &[root.der()], &plain, &under(&long, 2032));
    agree("the issuer's end", &[root.der()], &plain, &under(&short, 2032));
    let chain = under(&short, 2032);
    agree("the issuer's end, of a trusted certificate", &[root.der(), chain[0].clone()], &strict, &chain);
    let trusted = [root.der(), by_root.der()];
    agree("the end of one whose issuer counts", &trusted, &expired, &[by_root.der()]);

    let pins = |text: &str| Criteria {
        pins: pins::parse(text.as_bytes(), std::path::Path::new("pins")).unwrap(),
        ..Criteria::default()
    };
    let own = root.sign(until(leaf("own", &[]), 2040));
    let print = Fingerprint::sha256_of(&own.der());
    let one = pins(&format!("{print} not-before=2031-01-01 not-after=2031-12-31T23:59:59Z"));
    agree("a pin's window", &[root.der()], &one, &[own.der()]);
    let two = pins(&format!("{print} not-after=2030-12-31T23:59:59Z\n{print} not-before=2032-01-01"));
    agree("two pins with a gap", &[root.der()], &two, &[own.der()]);
}
