//! Java's own format: keytool's stores, and what no keytool would write.

use sha1::{Digest as _, Sha1};

use super::*;

const KEY_PASSWORD: &str = "key_password";

fn both_passwords() -> ResolvedPasswords {
    ResolvedPasswords { store: Some(Secret::new(PASSWORD.into())), key: Some(Secret::new(KEY_PASSWORD.into())) }
}

fn identity_with_both(bytes: &[u8]) -> Result<Identity, MaterialError> {
    parse_identity(bytes, &options(), &both_passwords())
}

/// `content` with a digest that fits, as if the writer had known the password.
fn signed(content: &[u8]) -> Vec<u8> {
    let password: Vec<u8> = PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let digest = Sha1::new().chain_update(password).chain_update(b"Mighty Aphrodite").chain_update(content).finalize();
    [content, digest.as_slice()].concat()
}

fn content(store: &[u8]) -> &[u8] {
    &store[..store.len() - 20]
}

/// A store of `version` with `entries`, said to be `count`.
fn store(version: u32, count: u32, entries: &[u8]) -> Vec<u8> {
    signed(&[&[0xfe, 0xed, 0xfe, 0xed], &version.to_be_bytes()[..], &count.to_be_bytes(), entries].concat())
}

fn text(text: &[u8]) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

fn head(tag: u32, alias: &[u8]) -> Vec<u8> {
    [tag.to_be_bytes().to_vec(), text(alias), vec![0; 8]].concat()
}

fn block(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

#[test]
fn a_key_opens_with_its_own_password_or_else_with_the_stores() {
    let two = fixture!("keytool-two-passwords.jks");
    assert_eq!(subjects(&identity_with_both(two).unwrap().chain), ["CN=two passwords"]);
    // The alias has letters of two, three and six bytes in modified UTF-8.
    let fault = store_fault(identity_of(two));
    assert!(matches!(&fault, StoreFault::WrongKeyPassword { alias } if alias == "größe€🔑"), "{fault:?}");
    let fault = store_fault(identity_with_both(fixture!("keytool.jks")));
    assert!(matches!(fault, StoreFault::WrongKeyPassword { .. }), "the store's password does not stand in: {fault:?}");
    // As in Java, one password is for all keys.
    for result in [identity_of(fixture!("keytool-two-keys.jks")), identity_with_both(fixture!("keytool-two-keys.jks"))]
    {
        assert!(matches!(store_fault(result), StoreFault::WrongKeyPassword { .. }));
    }
}

#[test]
fn a_store_trusts_its_own_leaves_whether_or_not_their_keys_open() {
    assert_eq!(subjects(&trust_of(fixture!("keytool-two-passwords.jks")).unwrap()), ["CN=two passwords"]);
    let mut two = subjects(&trust_of(fixture!("keytool-two-keys.jks")).unwrap());
    two.sort();
    assert_eq!(two, ["CN=one", "CN=two"]);
}

#[test]
fn trust_may_be_read_without_a_password_but_not_with_a_wrong_one_and_no_key_is() {
    let (none, wrong) = (ResolvedPasswords::default(), passwords("wrong"));
    for bytes in [fixture!("keytool-trust.jks"), fixture!("keytool-signed.jks")] {
        assert_eq!(parse_trust(bytes, &options(), &none).unwrap().len(), 2);
        assert!(matches!(store_fault(parse_trust(bytes, &options(), &wrong)), StoreFault::WrongPassword));
    }
    assert!(matches!(store_fault(parse_identity(fixture!("keytool.jks"), &options(), &none)), StoreFault::NoPassword));
}

#[test]
fn any_changed_byte_is_found_where_the_password_is_known() {
    let good = fixture!("keytool-trust.jks");
    for index in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[index] ^= 1;
        store_fault(trust_of(&bytes));
    }
}

#[test]
fn a_store_that_ends_too_early_or_too_late_is_damaged() {
    for good in [fixture!("keytool-signed.jks"), fixture!("keytool-trust.jks"), fixture!("keytool-two-passwords.jks")] {
        for len in 4..good.len() {
            for passwords in [both_passwords(), ResolvedPasswords::default()] {
                let fault = store_fault(parse_identity(&good[..len], &options(), &passwords));
                assert!(matches!(fault, StoreFault::Damaged(_)), "{len} bytes: {fault:?}");
                let fault = store_fault(parse_trust(&good[..len], &options(), &passwords));
                assert!(matches!(fault, StoreFault::Damaged(_)), "{len} bytes: {fault:?}");
            }
        }
        let longer = [good, b"x"].concat();
        assert!(matches!(store_fault(trust_of(&longer)), StoreFault::Damaged(_)), "a rest of an older, longer store");
    }
}

#[test]
fn version_one_has_no_certificate_types_and_version_three_is_unknown() {
    let der = Pair::self_signed(leaf("old", &[])).der();
    let entry = [head(2, b"old"), block(&der)].concat();
    let only = std::slice::from_ref(&der);
    assert_eq!(trust_of(&store(1, 1, &entry)).unwrap(), only);
    let typed = |kind: &[u8]| [head(2, b"old"), text(kind), block(&der)].concat();
    assert_eq!(trust_of(&store(2, 1, &typed(b"X.509"))).unwrap(), only);
    assert!(matches!(store_fault(trust_of(&store(2, 1, &typed(b"PGP")))), StoreFault::BadCertificate(_)));
    assert!(matches!(store_fault(trust_of(&store(3, 1, &typed(b"X.509")))), StoreFault::Damaged(_)));
}

#[test]
fn numbers_beyond_the_file_or_beyond_reason_are_refused() {
    let longest = u32::MAX.to_be_bytes();
    let empty_key = |chain: u32| [head(1, b"a"), block(b""), chain.to_be_bytes().to_vec()].concat();
    for bytes in
        [store(2, 4097, &[]), store(2, u32::MAX, &[]), store(2, 1, &empty_key(65)), store(2, 1, &empty_key(u32::MAX))]
    {
        let fault = store_fault(identity_of(&bytes));
        assert!(matches!(&fault, StoreFault::Damaged(why) if why.contains("at most")), "{fault:?}");
    }
    for (name, bytes) in [
        ("a certificate", store(1, 1, &[head(2, b"a"), longest.to_vec()].concat())),
        ("a key", store(2, 1, &[head(1, b"a"), longest.to_vec()].concat())),
        ("an alias", store(2, 1, &[&2_u32.to_be_bytes()[..], &[0xff, 0xff]].concat())),
        ("an empty key", store(2, 1, &empty_key(0))),
        ("a tag", store(2, 1, &head(3, b"a"))),
        ("an alias that is no text", store(2, 1, &[head(2, b"\xff"), block(b"")].concat())),
    ] {
        let fault = store_fault(identity_of(&bytes));
        assert!(matches!(fault, StoreFault::Damaged(_)), "{name}: {fault:?}");
    }
    assert!(matches!(store_fault(trust_of(&store(2, 0, &[]))), StoreFault::NoAnchor { untagged: 0 }));
    assert!(matches!(store_fault(identity_of(&store(2, 0, &[]))), StoreFault::NoKey));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// With a digest that fits, so that what is behind it is reached.
    #[test]
    fn changed_stores_never_panic(
        which in 0..3_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let stores =
            [fixture!("keytool.jks"), fixture!("keytool-two-passwords.jks"), fixture!("keytool-signed.jks")];
        let good = stores[which];
        let mut bytes = content(good).to_vec();
        for (index, value) in flips {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let bytes = signed(&bytes);
        let _ = identity_of(&bytes);
        let _ = identity_with_both(&bytes);
        let _ = trust_of(&bytes);
    }
}
