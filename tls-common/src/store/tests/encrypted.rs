//! Encrypted PKCS#8 keys: openssl's, and what they may cost.

use pkcs5::{
    der::Encode as _,
    pbes2::{Kdf, Parameters, Pbkdf2Params, Pbkdf2Prf, ScryptParams},
};

use super::*;
use crate::store::encrypted::decrypt;

#[test]
fn every_cipher_and_hash_of_openssl_that_is_worth_it_opens() {
    for (name, bytes) in [
        ("AES-256, SHA-256", fixture!("openssl-encrypted.pem")),
        ("AES-128, SHA-1", fixture!("openssl-encrypted-sha1.pem")),
        ("AES-192, SHA-384", fixture!("openssl-encrypted-sha384.pem")),
        ("AES-256, SHA-512", fixture!("openssl-encrypted-sha512.pem")),
        ("scrypt", fixture!("openssl-encrypted-scrypt.pem")),
    ] {
        let identity = identity_of(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(subjects(&identity.chain), ["CN=openssl"], "{name}");
        assert_eq!(trust_of_without_password(bytes), ["CN=openssl"], "{name}");
    }
}

fn trust_of_without_password(bytes: &[u8]) -> Vec<String> {
    subjects(&parse_trust(bytes, &options(), &ResolvedPasswords::default()).unwrap())
}

#[test]
fn the_keys_own_password_goes_before_the_stores() {
    let bytes = fixture!("openssl-encrypted.pem");
    let open = |store: Option<&str>, key: Option<&str>| {
        let secret = |text: &str| Secret::new(text.into());
        parse_identity(bytes, &options(), &ResolvedPasswords { store: store.map(secret), key: key.map(secret) })
    };
    assert!(open(Some("wrong"), Some(PASSWORD)).is_ok());
    assert!(open(None, Some(PASSWORD)).is_ok());
    assert!(matches!(store_fault(open(Some(PASSWORD), Some("wrong"))), StoreFault::WrongPassword));
    assert!(matches!(store_fault(open(None, None)), StoreFault::NoPassword));
}

#[test]
fn a_wrong_password_is_called_so_even_where_its_padding_looks_right() {
    let bytes = fixture!("openssl-encrypted-sha1.pem");
    for guess in 0..1000 {
        let fault = store_fault(parse_identity(bytes, &options(), &passwords(&guess.to_string())));
        assert!(matches!(fault, StoreFault::WrongPassword), "{guess}: {fault:?}");
    }
}

#[test]
fn other_encryptions_are_named_with_the_way_out() {
    for (bytes, name) in [
        (fixture!("openssl-pbes1.pem"), "PBES1"),
        (fixture!("openssl-encrypted-3des.pem"), "PBES2, but not with AES"),
        (fixture!("openssl-traditional.pem"), "Proc-Type"),
    ] {
        for passwords in [passwords(PASSWORD), ResolvedPasswords::default()] {
            let fault = store_fault(parse_identity(bytes, &options(), &passwords));
            assert!(matches!(fault, StoreFault::EncryptedKey(_)), "{name}: {fault:?}");
            let text = fault.to_string();
            assert!(text.contains(name) && text.contains("openssl pkcs8 -topk8 -v2 aes-256-cbc"), "{text}");
        }
    }
}

#[test]
fn what_would_cost_too_much_is_refused_before_it_runs() {
    let salt = || [7; 8].as_slice().try_into().unwrap();
    let pbkdf2 = |iteration_count| {
        Kdf::Pbkdf2(Pbkdf2Params { salt: salt(), iteration_count, key_length: None, prf: Pbkdf2Prf::HmacWithSha256 })
    };
    let scrypt = |cost_parameter, block_size, parallelization| {
        Kdf::Scrypt(ScryptParams { salt: salt(), cost_parameter, block_size, parallelization, key_length: None })
    };
    for kdf in [
        pbkdf2(0),
        pbkdf2(1_000_001),
        pbkdf2(u32::MAX),
        scrypt(0, 8, 1),
        scrypt(1, 8, 1),
        scrypt(3, 8, 1),
        scrypt(1 << 14, 0, 1),
        scrypt(1 << 14, 8, 0),
        scrypt(1 << 17, 8, 1),        // 128 MiB
        scrypt(1 << 20, 8, 1),        // 1 GiB
        scrypt(1 << 14, 8, u16::MAX), // 16 MiB, 65535 times
        scrypt(1 << 63, u16::MAX, u16::MAX),
    ] {
        let fault = decrypt(&encrypted_with(kdf.clone()), &passwords(PASSWORD)).unwrap_err();
        assert!(matches!(&fault, StoreFault::Damaged(why) if why.contains("costs too much")), "{kdf:?}: {fault}");
    }
    for kdf in [pbkdf2(1000), scrypt(1 << 14, 8, 1)] {
        let fault = decrypt(&encrypted_with(kdf.clone()), &passwords(PASSWORD)).unwrap_err();
        assert!(matches!(fault, StoreFault::WrongPassword), "it was tried: {kdf:?}: {fault}");
    }
}

/// 32 bytes that nobody encrypted, said to be so with `kdf`.
fn encrypted_with(kdf: Kdf) -> Vec<u8> {
    let parameters = Parameters { kdf, encryption: pkcs5::pbes2::EncryptionScheme::Aes256Cbc { iv: [1; 16] } };
    let algorithm = pkcs5::EncryptionScheme::Pbes2(parameters).to_der().unwrap();
    tlv(0x30, &[algorithm, tlv(0x04, &[9; 32])].concat())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&header, content].concat()
}

#[test]
fn scrypt_inside_pkcs12_has_the_same_bounds() {
    let pkcs7_data = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
    let shrouded_key = [0x06, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 2];
    let data = |content: &[u8]| tlv(0x30, &[&pkcs7_data[..], &tlv(0xa0, &tlv(0x04, content))].concat());
    let store = |cost_parameter| {
        let salt = [7; 8].as_slice().try_into().unwrap();
        let kdf =
            Kdf::Scrypt(ScryptParams { salt, cost_parameter, block_size: 8, parallelization: 1, key_length: None });
        let bag = tlv(0x30, &[&shrouded_key[..], &tlv(0xa0, &encrypted_with(kdf))].concat());
        tlv(0x30, &[&[0x02, 1, 3][..], &data(&tlv(0x30, &data(&tlv(0x30, &bag))))].concat())
    };
    for cost_parameter in [0, 1 << 17, 1 << 20] {
        let fault = store_fault(identity_of(&store(cost_parameter)));
        assert!(matches!(&fault, StoreFault::Damaged(why) if why.contains("costs too much")), "{fault:?}");
    }
    let fault = store_fault(identity_of(&store(1 << 10)));
    assert!(matches!(fault, StoreFault::WrongPassword), "the same store was tried: {fault:?}");
}

#[test]
fn a_file_full_of_encrypted_keys_is_refused() {
    let one = fixture!("openssl-encrypted.pem");
    let fault = store_fault(identity_of(&one.repeat(9)));
    assert!(matches!(&fault, StoreFault::Damaged(why) if why.contains("more than 8")), "{fault:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_keys_never_panic(
        len in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let kdf = Kdf::Pbkdf2(Pbkdf2Params {
            salt: [7; 8].as_slice().try_into().unwrap(),
            iteration_count: 100,
            key_length: Some(32),
            prf: Pbkdf2Prf::HmacWithSha512,
        });
        let mut der = encrypted_with(kdf);
        for (index, value) in flips {
            let index = index.index(der.len());
            der[index] = value;
        }
        let _ = decrypt(&der, &passwords(PASSWORD));
        let _ = decrypt(&der[..len.index(der.len())], &passwords(PASSWORD));
    }
}
