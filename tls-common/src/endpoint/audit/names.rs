//! Text that a peer chose, made fit for a record: escaped, so that no name can forge a line, a field or a name beside
//! it, and bounded.

use super::{MAX_SANS, MAX_TEXT_BYTES};
use std::net::{Ipv4Addr, Ipv6Addr};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// What stands between names, or starts an escape.
const SEPARATORS: &[char] = &[',', '+', '\\'];

/// The names in a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) subject: String,
    /// `DNS:a, IP:192.0.2.1`; `None` without any.
    pub(super) sans: Option<String>,
}

impl Names {
    /// `None` if it is no certificate.
    pub(super) fn of(leaf: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        let extension = certificate.subject_alternative_name().ok().flatten();
        let sans = extension.map(|extension| extension.value.general_names.as_slice()).filter(|sans| !sans.is_empty());
        Some(Self { subject: bounded(distinguished(certificate.subject())), sans: sans.map(list) })
    }
}

/// Reads the names in what may be a certificate; whatever is in it, they stay in bounds and printable.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_names(leaf: &[u8]) {
    let Some(Names { subject, sans }) = Names::of(leaf) else { return };
    let one = MAX_TEXT_BYTES + '…'.len_utf8();
    let all = MAX_SANS * (one + ", ".len()) + "and 18446744073709551615 more".len();
    let sans = sans.unwrap_or_default();
    assert!(subject.len() <= one && sans.len() <= all, "{subject} {sans}");
    assert!(!(subject + &sans).contains(char::is_control));
}

/// A sentence for a record, which may quote what a peer sent.
pub(super) fn sentence(text: &str) -> String {
    bounded(escaped(text, &[]))
}

fn list(sans: &[GeneralName<'_>]) -> String {
    let mut names: Vec<String> = sans.iter().take(MAX_SANS).map(|san| bounded(alternative(san))).collect();
    if sans.len() > MAX_SANS {
        names.push(format!("and {} more", sans.len() - MAX_SANS));
    }
    names.join(", ")
}

fn alternative(san: &GeneralName<'_>) -> String {
    let (kind, name) = match san {
        GeneralName::DNSName(name) => ("DNS", escaped(name, SEPARATORS)),
        GeneralName::URI(name) => ("URI", escaped(name, SEPARATORS)),
        GeneralName::RFC822Name(name) => ("email", escaped(name, SEPARATORS)),
        GeneralName::DirectoryName(name) => ("dirName", format!("({})", distinguished(name))),
        GeneralName::IPAddress(bytes) => ("IP", address(bytes)),
        GeneralName::RegisteredID(oid) => ("ID", oid.to_id_string()),
        _ => ("other", "unreadable".to_owned()),
    };
    format!("{kind}:{name}")
}

fn address(bytes: &[u8]) -> String {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        Ipv4Addr::from(bytes).to_string()
    } else if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
        Ipv6Addr::from(bytes).to_string()
    } else {
        "unreadable".to_owned()
    }
}

/// `CN=a + OU=b, O=c`.
fn distinguished(name: &X509Name<'_>) -> String {
    let relative = name.iter_rdn().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join(" + "));
    relative.collect::<Vec<_>>().join(", ")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let kind = oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned);
    let value = match attribute.as_str() {
        Ok(text) => escaped(text, SEPARATORS),
        // As RFC 4514 writes what is no text.
        Err(_) => format!("#{}", crate::context::hex(attribute.as_slice())),
    };
    format!("{kind}={value}")
}

/// Unprintable characters (line breaks, terminal codes, changes of writing direction) become `\n`, `\u{1b}` and so on;
/// `separators` get a backslash.
fn escaped(text: &str, separators: &[char]) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            _ if separators.contains(&character) => out.extend(['\\', character]),
            '"' | '\'' | '\\' => out.push(character),
            _ => out.extend(character.escape_debug()),
        }
    }
    out
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, string::Ia5String};

    fn certificate(subject: &[(DnType, &str)], sans: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = sans;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(Ia5String::try_from(name).unwrap())
    }

    #[test]
    fn usual_names_are_written_as_everybody_writes_them() {
        let sans = vec![
            dns("a.example"),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
            SanType::URI(Ia5String::try_from("spiffe://cluster/tm").unwrap()),
        ];
        let names = Names::of(&certificate(
            &[(DnType::CommonName, "Grüße, \"quoted\""), (DnType::OrganizationName, "Acme")],
            sans,
        ));
        let names = names.unwrap();
        assert_eq!(names.subject, "CN=Grüße\\, \"quoted\", O=Acme");
        assert_eq!(names.sans.as_deref(), Some("DNS:a.example, IP:192.0.2.1, IP:2001:db8::1, URI:spiffe://cluster/tm"));
    }

    #[test]
    fn a_certificate_without_names_has_none() {
        assert_eq!(Names::of(&certificate(&[], vec![])), Some(Names { subject: String::new(), sans: None }));
        assert_eq!(Names::of(b"no certificate"), None);
    }

    #[test]
    fn no_name_can_forge_a_line_or_a_neighbour() {
        let evil = "x\nINFO audit: event=\"handshake\" \u{1b}[2K\u{202e}, DNS:bank.example";
        let subject = [(DnType::CommonName, evil), (DnType::OrganizationName, "a + CN=root")];
        let names = Names::of(&certificate(&subject, vec![dns("a\r\nb, DNS:bank.example")])).unwrap();
        assert_eq!(
            names.subject,
            "CN=x\\nINFO audit: event=\"handshake\" \\u{1b}[2K\\u{202e}\\, DNS:bank.example, O=a \\+ CN=root"
        );
        assert_eq!(names.sans.unwrap(), "DNS:a\\r\\nb\\, DNS:bank.example");
        assert_eq!(sentence("one\ntwo"), "one\\ntwo");
    }

    #[test]
    fn many_and_long_names_are_cut() {
        let long = "é".repeat(1000);
        let mut sans: Vec<SanType> = (0..40).map(|number| dns(&format!("host{number}.example"))).collect();
        sans[0] = dns(&"a".repeat(5000));
        let names = Names::of(&certificate(&[(DnType::CommonName, &long)], sans)).unwrap();
        let mark = '…'.len_utf8();
        assert!(names.subject.len() <= MAX_TEXT_BYTES + mark && names.subject.ends_with('…'));
        let sans = names.sans.unwrap();
        let parts: Vec<&str> = sans.split(", ").collect();
        assert_eq!(parts.len(), MAX_SANS + 1);
        assert_eq!(parts[0].len(), MAX_TEXT_BYTES + mark);
        assert_eq!(parts[MAX_SANS], "and 24 more");
        assert!(sentence(&long).len() <= MAX_TEXT_BYTES + mark);
    }
}
