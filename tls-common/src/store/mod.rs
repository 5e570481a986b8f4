//! Stores: from the bytes of a keystore or truststore to key and certificates. Pure: no IO, no clock.
//!
//! The decoders ([`pkcs12`], [`jks`], [`pem`], [`der`]) only say what is in the file ([`Contents`]); what of it counts
//! is decided here:
//!
//! - **Identity**: the certificate belongs to the key whose public key it carries, never by position or name alone.
//!   With several key entries the first by alias (case-insensitive; entries without alias last) is taken, with a warning.
//!   The chain is the leaf, then its issuers as far as the store has them.
//! - **Trust**: certificates marked as trusted (every one of a PEM or DER file; in PKCS12 those with Java's attribute;
//!   in JKS the entries of that kind), plus the own certificate of each key entry, because Flink's recipe uses one file
//!   as keystore and truststore. Certificates without the mark are ignored and counted in a warning, as Java does silently.
//!   No trusted certificate is an error: an empty truststore is a mistake, not a wish to refuse everyone.

mod der;
mod directory;
mod encrypted;
mod jks;
mod pem;
mod pkcs12;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

use crate::{
    MaterialError, Secret, StoreKind, StoreOptions,
    error::{StoreFault, StorePart},
    generation::public_key,
};

pub(crate) use self::directory::{holds_certificates, parse_trust_directory};
#[cfg(feature = "fuzzing")]
pub(crate) use self::{encrypted::decrypt as decrypt_pkcs8, jks::sign as sign_jks};

/// Our own key with its certificates, leaf first.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Zeroizing<PrivateKeyDer<'static>>,
}

/// A store's passwords after password files have been read.
#[derive(Debug, Default)]
pub(crate) struct ResolvedPasswords {
    pub(crate) store: Option<Secret>,
    pub(crate) key: Option<Secret>,
}

/// Reads a keystore.
pub(crate) fn parse_identity(
    bytes: &[u8],
    options: &StoreOptions,
    passwords: &ResolvedPasswords,
) -> Result<Identity, MaterialError> {
    decode(bytes, options, passwords, StorePart::Keystore)
        .and_then(|contents| identity(contents, options))
        .map_err(|fault| MaterialError::Store { part: StorePart::Keystore, path: options.path.clone(), fault })
}

/// Reads a certificate chain and the private key that lies in a file of its own, `key_path`. Certificates beside the
/// key are ignored, as in any other place where only a key is asked for.
pub(crate) fn parse_chain_and_key(
    chain: &[u8],
    (key_path, key): (&Path, &[u8]),
    options: &StoreOptions,
    passwords: &ResolvedPasswords,
) -> Result<Identity, MaterialError> {
    let in_chain = |fault| MaterialError::Store { part: StorePart::Keystore, path: options.path.clone(), fault };
    let in_key = |fault| MaterialError::Store { part: StorePart::PrivateKey, path: key_path.to_owned(), fault };
    let pem_only = |bytes: &[u8]| match sniff(bytes)? {
        StoreKind::Pem => Ok(()),
        other => Err(StoreFault::NotPem { found: other.name() }),
    };
    pem_only(chain).map_err(in_chain)?;
    pem_only(key).map_err(in_key)?;
    // Whatever key the chain's file holds is one too many; it need not be decrypted to say so.
    if holds_private_key(chain) {
        return Err(in_chain(StoreFault::SecondKey));
    }
    let mut contents = decode(chain, options, passwords, StorePart::Keystore).map_err(in_chain)?;
    contents.keys = decode(key, options, passwords, StorePart::PrivateKey).map_err(in_key)?.keys;
    if contents.keys.is_empty() {
        return Err(in_key(StoreFault::NoKey));
    }
    identity(contents, options).map_err(in_chain)
}

/// Reads a truststore; never returns an empty list.
pub(crate) fn parse_trust(
    bytes: &[u8],
    options: &StoreOptions,
    passwords: &ResolvedPasswords,
) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    decode(bytes, options, passwords, StorePart::Truststore)
        .and_then(|contents| trust(contents, options))
        .map_err(|fault| MaterialError::Store { part: StorePart::Truststore, path: options.path.clone(), fault })
}

/// What a decoder found in a file, in the file's order.
#[derive(Default)]
struct Contents {
    keys: Vec<KeyEntry>,
    certs: Vec<CertEntry>,
}

struct KeyEntry {
    alias: Option<String>,
    local_id: Option<Vec<u8>>,
    key: Zeroizing<PrivateKeyDer<'static>>,
}

struct CertEntry {
    local_id: Option<Vec<u8>>,
    trusted: bool,
    der: CertificateDer<'static>,
}

fn decode(
    bytes: &[u8],
    options: &StoreOptions,
    passwords: &ResolvedPasswords,
    part: StorePart,
) -> Result<Contents, StoreFault> {
    let found = sniff(bytes)?;
    if options.kind != StoreKind::Auto && options.kind != found {
        return Err(StoreFault::WrongKind { configured: options.kind.name(), found: found.name() });
    }
    if found == StoreKind::Jks && part == StorePart::Truststore && passwords.store.is_none() {
        tracing::warn!(
            path = %options.path.display(),
            "JKS truststore is read without its password, so nothing proves that it is as it was written"
        );
    }
    match found {
        StoreKind::Pem => pem::decode(bytes, passwords, part),
        StoreKind::Der => der::decode(bytes),
        StoreKind::Jks => jks::decode(bytes, passwords, part),
        StoreKind::Pkcs12 | StoreKind::Auto => pkcs12::decode(bytes, passwords),
    }
}

impl StoreKind {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pkcs12 => "PKCS12",
            Self::Jks => "JKS",
            Self::Pem => "PEM",
            Self::Der => "DER",
        }
    }
}

/// The format by content; never `Auto`.
fn sniff(bytes: &[u8]) -> Result<StoreKind, StoreFault> {
    match bytes {
        [] => Err(StoreFault::Empty),
        [0xfe, 0xed, 0xfe, 0xed, ..] => Ok(StoreKind::Jks),
        [0xce, 0xce, 0xce, 0xce, ..] => Err(StoreFault::JavaFormat { format: "JCEKS" }),
        _ if der::is_signed_object(bytes) => Ok(StoreKind::Der),
        [0x30, ..] => Ok(StoreKind::Pkcs12), // another DER sequence
        _ if contains(bytes, b"-----BEGIN ") => Ok(StoreKind::Pem),
        _ => Err(StoreFault::UnknownFormat),
    }
}

/// Whether a PEM file holds a private key in any form, encrypted or not.
fn holds_private_key(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((_, after)) = split_once(rest, b"-----BEGIN ") {
        if split_once(after, b"-----").is_some_and(|(label, _)| label.ends_with(b"PRIVATE KEY")) {
            return true;
        }
        rest = after;
    }
    false
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    split_once(bytes, needle).is_some()
}

/// What lies before and behind the first `needle`.
fn split_once<'a>(bytes: &'a [u8], needle: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(needle.len()).position(|window| window == needle)?;
    Some((bytes.get(..at)?, bytes.get(at + needle.len()..)?))
}

fn identity(mut contents: Contents, options: &StoreOptions) -> Result<Identity, StoreFault> {
    if contents.keys.is_empty() {
        return Err(StoreFault::NoKey);
    }
    contents.keys.sort_by_key(|entry| (entry.alias.is_none(), entry.alias.as_ref().map(|alias| alias.to_lowercase())));
    let certs = parse_all(&contents.certs)?;
    let leaves = contents.keys.iter().map(|entry| leaf_of(entry, &contents.certs, &certs));
    // The first key with a certificate; if none has one, what is wrong with the first key.
    let mut fault = None;
    let mut chosen = None;
    for (index, leaf) in leaves.enumerate() {
        match leaf {
            Ok(leaf) => {
                chosen = Some((index, leaf));
                break;
            }
            Err(reason) => fault = fault.or(Some(reason)),
        }
    }
    let Some((index, leaf)) = chosen else { return Err(fault.unwrap_or(StoreFault::NoKey)) };
    let chain = chain_from(leaf, &certs);
    let chain = chain.into_iter().filter_map(|i| contents.certs.get(i)).map(|entry| entry.der.clone()).collect();
    if contents.keys.len() > 1 {
        let alias = contents.keys.get(index).and_then(|entry| entry.alias.as_deref()).unwrap_or("(without alias)");
        let keys = contents.keys.len();
        tracing::warn!(path = %options.path.display(), keys, alias, "keystore holds several keys, the first by alias is used");
    }
    Ok(Identity { chain, key: contents.keys.swap_remove(index).key })
}

fn trust(contents: Contents, options: &StoreOptions) -> Result<Vec<CertificateDer<'static>>, StoreFault> {
    let certs = parse_all(&contents.certs)?;
    let mut own = Vec::new();
    let mut issuers = Vec::new();
    for entry in &contents.keys {
        if let Ok(leaf) = leaf_of(entry, &contents.certs, &certs) {
            own.push(leaf);
            issuers.extend(chain_from(leaf, &certs));
        }
    }
    let mut trusted: Vec<CertificateDer<'static>> = Vec::new();
    let mut untagged = 0;
    for (index, entry) in contents.certs.into_iter().enumerate() {
        if entry.trusted || own.contains(&index) {
            if !trusted.contains(&entry.der) {
                trusted.push(entry.der);
            }
        } else if !issuers.contains(&index) {
            untagged += 1;
        }
    }
    if trusted.is_empty() {
        return Err(StoreFault::NoAnchor { untagged });
    }
    if untagged > 0 {
        tracing::warn!(
            path = %options.path.display(), ignored = untagged,
            "truststore holds certificates without Java's trusted-certificate attribute; they are not trusted"
        );
    }
    Ok(trusted)
}

fn parse_all(entries: &[CertEntry]) -> Result<Vec<X509Certificate<'_>>, StoreFault> {
    entries.iter().map(|entry| parse(&entry.der)).collect()
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, StoreFault> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(StoreFault::BadCertificate("trailing bytes".into())),
        Err(error) => Err(StoreFault::BadCertificate(error.to_string())),
    }
}

/// Index of the certificate that carries the entry's public key; among several the one with the entry's local key id.
fn leaf_of(entry: &KeyEntry, entries: &[CertEntry], certs: &[X509Certificate<'_>]) -> Result<usize, StoreFault> {
    let public = public_key(&entry.key).map_err(|error| StoreFault::UnsupportedKey(error.to_string()))?;
    let same_key = |(_, cert): &(usize, &X509Certificate<'_>)| cert.public_key().raw == public.as_ref();
    let candidates: Vec<usize> = certs.iter().enumerate().filter(same_key).map(|(index, _)| index).collect();
    let same_id =
        |index: &&usize| entry.local_id.is_some() && entries.get(**index).is_some_and(|e| e.local_id == entry.local_id);
    match candidates.iter().find(same_id).or(candidates.first()) {
        Some(index) => Ok(*index),
        None if certs.is_empty() => Err(StoreFault::NoCertificate),
        None => Err(StoreFault::KeyMismatch),
    }
}

/// Indices of `leaf` and its issuers, as far as `certs` has them, by name and (where both carry one) key identifier.
fn chain_from(leaf: usize, certs: &[X509Certificate<'_>]) -> Vec<usize> {
    let mut chain = vec![leaf];
    while let Some(last) = chain.last().and_then(|index| certs.get(*index)) {
        if last.issuer().as_raw() == last.subject().as_raw() {
            break; // self-issued: the root
        }
        let issuer = certs
            .iter()
            .enumerate()
            .find(|(index, candidate)| !chain.contains(index) && may_have_issued(candidate, last));
        match issuer {
            Some((index, _)) => chain.push(index),
            None => break,
        }
    }
    chain
}

fn may_have_issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    let identifiers = (subject_key_identifier(issuer), authority_key_identifier(certificate));
    issuer.subject().as_raw() == certificate.issuer().as_raw()
        && match identifiers {
            (Some(of_issuer), Some(wanted)) => of_issuer == wanted,
            _ => true,
        }
}

fn subject_key_identifier<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0),
        _ => None,
    })
}

fn authority_key_identifier<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}
