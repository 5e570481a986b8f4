//! A directory of CA certificates, after its files have been read.

use super::*;

fn parse_files(files: &[(&str, &[u8])]) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    parse_trust_directory(files.iter().map(|(name, bytes)| (Path::new(*name), *bytes)), &options())
}

#[test]
fn pem_and_der_files_add_up_and_doubles_count_once() {
    let (one, two) = (Pair::self_signed(authority("one")), Pair::self_signed(authority("two")));
    let bundle = one.certificate_pem() + &two.certificate_pem();
    let crl = [0x30, 0x06, 0x30, 0x04, 0x02, 0x01, 0x01, 0x05]; // as far as anybody looks
    let trusted = parse_files(&[
        ("0a1b2c3d.0", one.certificate_pem().as_bytes()),
        ("one.pem", one.certificate_pem().as_bytes()),
        ("one.cer", &one.der()),
        ("bundle.pem", bundle.as_bytes()),
        ("keytool.cer", fixture!("keytool.cer")),
        ("v1.pem", fixture!("openssl-v1.pem")),
        // None of anybody's business.
        ("README", b"put your CAs here"),
        ("empty", b""),
        ("key.pem", two.key_pem().as_bytes()),
        ("ca.crl", &crl),
        ("store.p12", fixture!("keytool.p12")),
        ("store.jks", fixture!("keytool.jks")),
    ]);
    let mut trusted = subjects(&trusted.unwrap());
    trusted.sort();
    assert_eq!(trusted, ["CN=flink.internal", "CN=one", "CN=two", "CN=version one"]);
}

#[test]
fn a_damaged_certificate_is_an_error_that_names_its_file() {
    let one = Pair::self_signed(authority("one"));
    let (pem, der) = (one.certificate_pem(), one.der());
    for bad in [&pem.as_bytes()[..pem.len() / 2], &der[..der.len() / 2], &[&der[..], b"x"].concat()] {
        match parse_files(&[("good.pem", pem.as_bytes()), ("bad.pem", bad)]) {
            Err(MaterialError::Store { path, .. }) => assert_eq!(path, Path::new("bad.pem")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_directory_without_a_certificate_trusts_nobody_and_says_so() {
    for files in [&[][..], &[("README", b"hello".as_slice())]] {
        match parse_files(files) {
            Err(MaterialError::Store { path, fault: StoreFault::NoAnchor { untagged: 0 }, .. }) => {
                assert_eq!(path, Path::new("/tls/store"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_directory_is_no_pkcs12_store() {
    let one = Pair::self_signed(authority("one"));
    let options = StoreOptions { kind: StoreKind::Pkcs12, ..options() };
    let files = [(Path::new("one.cer"), &one.der()[..])];
    let fault = store_fault(parse_trust_directory(files.into_iter(), &options));
    assert!(matches!(fault, StoreFault::WrongKind { configured: "PKCS12", .. }), "{fault}");
}
