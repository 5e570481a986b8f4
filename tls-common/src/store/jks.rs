//! JKS, Java's keystore format before PKCS#12, to [`Contents`].
//!
//! ```text
//! FEEDFEED  version (1, 2)  count  entry*  SHA-1(password ‖ "Mighty Aphrodite" ‖ everything before)
//! entry   = 1 alias date encrypted-key chain-count certificate*      a key, its own certificate first
//!         | 2 alias date certificate                                 a trusted certificate
//! certificate = type ("X.509"; not in version 1) length DER
//! ```
//!
//! All numbers are big-endian, texts are Java's modified UTF-8, passwords count as UTF-16BE. The cryptography protects
//! little (SHA-1, no work factor): such a file needs tight permissions. Like Java, we read trust (never a key) without a
//! password too; the digest cannot be checked then, and a warning says so. Unlike Java, we refuse bytes behind the
//! digest: they are what a shorter store leaves when it is written over a longer one.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{CertEntry, Contents, KeyEntry, ResolvedPasswords, encrypted::EncryptedKey};
use crate::{
    Secret,
    error::{StoreFault, StorePart},
};

/// More entries than this in one store are a mistake; Java's own list of public authorities has about 150.
const MAX_ENTRIES: u32 = 4096;

/// Certificates of one key entry.
const MAX_CHAIN: u32 = 64;

const DIGEST_BYTES: usize = 20;

/// `1.3.6.1.4.1.42.2.17.1.1`, the key stream made of SHA-1 that protects keys.
const KEY_PROTECTOR: &str = "1.3.6.1.4.1.42.2.17.1.1";

/// Opens the store. For trust no key is decrypted: as in Java, the own certificate of each key entry is trusted whether
/// or not its key opens.
pub(super) fn decode(bytes: &[u8], passwords: &ResolvedPasswords, part: StorePart) -> Result<Contents, StoreFault> {
    let Store { entries, signed, digest } = read(bytes)?;
    match &passwords.store {
        Some(password) if !bool::from(digest_of(signed, password).as_slice().ct_eq(digest)) => {
            return Err(StoreFault::WrongPassword);
        }
        None if part != StorePart::Truststore => return Err(StoreFault::NoPassword),
        _ => {}
    }
    let mut contents = Contents::default();
    for (number, entry) in entries.into_iter().enumerate() {
        match entry {
            Entry::Trusted(certificate) => contents.certs.push(cert(certificate, None, true)),
            Entry::Key { chain, .. } if part == StorePart::Truststore => {
                contents.certs.extend(chain.first().map(|own| cert(own, None, true)));
            }
            Entry::Key { alias, encrypted, chain } => {
                let key = recover(encrypted, passwords)?
                    .ok_or_else(|| StoreFault::WrongKeyPassword { alias: alias.clone() })?;
                // Ties the key to the first certificate of its own chain, where another entry has the same key.
                let local_id = Some(number.to_be_bytes().to_vec());
                contents.keys.push(KeyEntry { alias: Some(alias), local_id: local_id.clone(), key });
                let ids = std::iter::once(local_id).chain(std::iter::repeat(None));
                contents.certs.extend(chain.iter().zip(ids).map(|(der, id)| cert(der, id, false)));
            }
        }
    }
    Ok(contents)
}

/// The digest at the end of a store; whoever knows the password can make it.
fn digest_of(content: &[u8], password: &Secret) -> [u8; DIGEST_BYTES] {
    Sha1::new().chain_update(utf16(password)).chain_update(b"Mighty Aphrodite").chain_update(content).finalize().into()
}

/// `bytes`, of which the last are taken for a digest, with the one that makes them a store under `password`.
#[cfg(feature = "fuzzing")]
pub(crate) fn sign(bytes: &[u8], password: &Secret) -> Vec<u8> {
    let content = bytes.get(..bytes.len().saturating_sub(DIGEST_BYTES)).unwrap_or_default();
    [content, &digest_of(content, password)].concat()
}

fn cert(der: &[u8], local_id: Option<Vec<u8>>, trusted: bool) -> CertEntry {
    CertEntry { local_id, trusted, der: CertificateDer::from(der.to_vec()) }
}

/// A store as it stands in the file.
struct Store<'a> {
    entries: Vec<Entry<'a>>,
    /// The bytes under the digest.
    signed: &'a [u8],
    digest: &'a [u8],
}

/// An entry as it stands in the file.
enum Entry<'a> {
    Key { alias: String, encrypted: &'a [u8], chain: Vec<&'a [u8]> },
    Trusted(&'a [u8]),
}

fn read(bytes: &[u8]) -> Result<Store<'_>, StoreFault> {
    let mut reader = Reader { rest: bytes };
    let _magic = reader.u32()?;
    let version = reader.u32()?;
    if !matches!(version, 1 | 2) {
        return Err(damaged(&format!("version {version} of JKS, where 1 and 2 are known")));
    }
    let count = reader.bounded(MAX_ENTRIES, "entries")?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let tag = reader.u32()?;
        let alias = reader.text()?;
        let _date = reader.take(8)?;
        entries.push(match tag {
            1 => {
                let encrypted = reader.prefixed()?;
                let length = reader.bounded(MAX_CHAIN, "certificates in one chain")?;
                let chain = (0..length).map(|_| reader.certificate(version)).collect::<Result<_, _>>()?;
                Entry::Key { alias, encrypted, chain }
            }
            2 => Entry::Trusted(reader.certificate(version)?),
            _ => return Err(damaged("an entry that is neither key nor certificate")),
        });
    }
    let signed = bytes.get(..bytes.len() - reader.rest.len()).unwrap_or_default();
    let digest = reader.take(DIGEST_BYTES)?;
    if !reader.rest.is_empty() {
        return Err(damaged("bytes behind its end"));
    }
    Ok(Store { entries, signed, digest })
}

/// What is left of the file. Nothing is allocated by a length before that many bytes are known to be there.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], StoreFault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| damaged("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreFault> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| damaged("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, StoreFault> {
        self.array().map(u32::from_be_bytes)
    }

    fn bounded(&mut self, most: u32, what: &str) -> Result<u32, StoreFault> {
        match self.u32()? {
            number if number <= most => Ok(number),
            number => Err(damaged(&format!("{number} {what}, where at most {most} are read"))),
        }
    }

    fn prefixed(&mut self) -> Result<&'a [u8], StoreFault> {
        let length = self.u32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn text(&mut self) -> Result<String, StoreFault> {
        let length = self.array().map(u16::from_be_bytes)?;
        modified_utf8(self.take(length.into())?).ok_or_else(|| damaged("a text that is not modified UTF-8"))
    }

    fn certificate(&mut self, version: u32) -> Result<&'a [u8], StoreFault> {
        if version == 2 {
            let kind = self.text()?;
            if kind != "X.509" {
                return Err(StoreFault::BadCertificate(format!("of type {kind:?}")));
            }
        }
        self.prefixed()
    }
}

fn damaged(what: &str) -> StoreFault {
    StoreFault::Damaged(what.to_owned())
}

/// Java's `DataInput.readUTF`: each UTF-16 code unit by itself in one to three bytes, zero in two.
fn modified_utf8(mut bytes: &[u8]) -> Option<String> {
    let low = |byte: u8| (byte & 0xc0 == 0x80).then_some(u16::from(byte & 0x3f));
    let mut units = Vec::with_capacity(bytes.len());
    while let [first, rest @ ..] = bytes {
        let (unit, rest) = match (*first, rest) {
            (0x00..=0x7f, rest) => (u16::from(*first), rest),
            (0xc0..=0xdf, [second, rest @ ..]) => (u16::from(*first & 0x1f) << 6 | low(*second)?, rest),
            (0xe0..=0xef, [second, third, rest @ ..]) => {
                (u16::from(*first & 0x0f) << 12 | low(*second)? << 6 | low(*third)?, rest)
            }
            _ => return None,
        };
        units.push(unit);
        bytes = rest;
    }
    // A lone half of a pair is legal in Java; the text is only shown and sorted by.
    Some(String::from_utf16_lossy(&units))
}

/// Decrypts a private key with its own password or, without one, the store's; `None` if that is not the right one.
fn recover(
    encrypted: &[u8],
    passwords: &ResolvedPasswords,
) -> Result<Option<Zeroizing<PrivateKeyDer<'static>>>, StoreFault> {
    let EncryptedKey { algorithm, data } = EncryptedKey::parse(encrypted)?;
    if algorithm.oid.to_string() != KEY_PROTECTOR {
        return Err(damaged(&format!("a key encrypted with {}, which is not JKS's own way", algorithm.oid)));
    }
    let (Some((salt, data)), Some(password)) =
        (data.split_first_chunk::<DIGEST_BYTES>(), passwords.key.as_ref().or(passwords.store.as_ref()))
    else {
        return Err(damaged("an encrypted key that is too short"));
    };
    let (data, check) =
        data.split_last_chunk::<DIGEST_BYTES>().ok_or_else(|| damaged("an encrypted key that is too short"))?;
    let password = utf16(password);
    let mut key = Zeroizing::new(data.to_vec());
    let mut stream = Zeroizing::new(*salt);
    for block in key.chunks_mut(DIGEST_BYTES) {
        *stream = Sha1::new().chain_update(&password).chain_update(*stream).finalize().into();
        block.iter_mut().zip(stream.iter()).for_each(|(byte, mask)| *byte ^= mask);
    }
    let actual = Sha1::new().chain_update(&password).chain_update(&key).finalize();
    let right = bool::from(actual.as_slice().ct_eq(check));
    Ok(right.then(|| Zeroizing::new(PrivatePkcs8KeyDer::from(std::mem::take(&mut *key)).into())))
}

/// The password as Java hashes it. The buffer never grows, so that no copy of it stays behind: a UTF-16 code unit comes
/// from at least one byte of UTF-8.
fn utf16(password: &Secret) -> Zeroizing<Vec<u8>> {
    let text = password.expose();
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * text.len()));
    text.encode_utf16().for_each(|unit| bytes.extend_from_slice(&unit.to_be_bytes()));
    bytes
}
