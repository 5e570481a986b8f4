//! Certificates in one file, their private key in another: cert-manager's `tls.crt` and `tls.key`.

use super::*;
use crate::error::StorePart;

fn parse(chain: &[u8], key: &[u8]) -> Result<Identity, MaterialError> {
    parse_chain_and_key(chain, (Path::new("/tls/tls.key"), key), &options(), &passwords(PASSWORD))
}

/// Which file is at fault, and how.
fn fault(chain: &[u8], key: &[u8]) -> (StorePart, StoreFault) {
    match parse(chain, key) {
        Err(MaterialError::Store { part, path, fault }) => {
            let expected = if part == StorePart::PrivateKey { "/tls/tls.key" } else { "/tls/store" };
            assert_eq!(path, Path::new(expected));
            (part, fault)
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn a_chain_and_its_key_make_an_identity() {
    let root = Pair::self_signed(authority("root"));
    let own = root.sign(leaf("own", &[]));
    let chain = own.certificate_pem() + &root.certificate_pem();
    assert_eq!(parse(chain.as_bytes(), own.key_pem().as_bytes()).unwrap().chain, [own.der(), root.der()]);
    // What else is in the key's file does not matter, and the key may be encrypted.
    let openssl = fixture!("openssl-encrypted.pem");
    let certificate = split_once(openssl, b"-----END ENCRYPTED PRIVATE KEY-----\n").unwrap().1;
    assert_eq!(subjects(&parse(certificate, openssl).unwrap().chain), ["CN=openssl"]);
}

#[test]
fn whichever_file_is_wrong_is_named() {
    let own = Pair::self_signed(leaf("own", &[]));
    let other = Pair::self_signed(leaf("other", &[]));
    let (chain, key, both) = (own.certificate_pem(), own.key_pem(), own.keystore(&[]));
    let (chain, key, both) = (chain.as_bytes(), key.as_bytes(), both.as_bytes());
    assert!(matches!(fault(both, key), (StorePart::Keystore, StoreFault::SecondKey)));
    // Its password need not even be known.
    assert!(matches!(fault(fixture!("openssl-encrypted.pem"), key), (StorePart::Keystore, StoreFault::SecondKey)));
    assert!(matches!(fault(fixture!("openssl-traditional.pem"), key), (StorePart::Keystore, StoreFault::SecondKey)));
    assert!(matches!(
        fault(fixture!("keytool.p12"), key),
        (StorePart::Keystore, StoreFault::NotPem { found: "PKCS12" })
    ));
    assert!(matches!(
        fault(chain, fixture!("keytool.jks")),
        (StorePart::PrivateKey, StoreFault::NotPem { found: "JKS" })
    ));
    assert!(matches!(fault(chain, chain), (StorePart::PrivateKey, StoreFault::NoKey)));
    assert!(matches!(fault(chain, b""), (StorePart::PrivateKey, StoreFault::Empty)));
    assert!(matches!(fault(chain, &key[..key.len() / 2]), (StorePart::PrivateKey, StoreFault::Damaged(_))));
    assert!(matches!(fault(chain, other.key_pem().as_bytes()), (StorePart::Keystore, StoreFault::KeyMismatch)));
    let error = parse(chain, b"").err().unwrap().to_string();
    assert!(error.starts_with("private key /tls/tls.key: the file is empty"), "{error}");
}
