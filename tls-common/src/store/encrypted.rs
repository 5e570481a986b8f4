//! Encrypted private keys: PKCS#8's `EncryptedPrivateKeyInfo`, which PEM and JKS share, and its decryption with PBES2.
//!
//! How long a password takes to check is written in the file itself, so both costs are bounded before anything runs:
//! [`MAX_ITERATIONS`] of PBKDF2 (openssl writes 2048; OWASP asks for 600,000) and, for scrypt, [`MAX_SCRYPT_BYTES`] of
//! memory and [`MAX_SCRYPT_WORK_BYTES`] walked through (openssl writes 16 MiB of both, and itself reads no more than
//! 32 MiB).

use pkcs5::{
    AlgorithmIdentifierRef, Error, ObjectIdentifier,
    der::{self, Decode as _, ErrorKind, Reader as _, SliceReader, asn1::OctetStringRef},
    pbes2::{Kdf, PBES2_OID, Parameters, SCRYPT_OID, ScryptParams},
};
use zeroize::Zeroizing;

use super::{ResolvedPasswords, split_once};
use crate::{Secret, error::StoreFault};

/// Rounds of PBKDF2: about a second.
const MAX_ITERATIONS: u32 = 1_000_000;

/// Memory of scrypt (128 · N · r).
const MAX_SCRYPT_BYTES: u64 = 64 * 1024 * 1024;

/// Memory of scrypt times its parallelisation p, which runs one after the other here: about a second.
const MAX_SCRYPT_WORK_BYTES: u64 = 256 * 1024 * 1024;

/// An encrypted key with the name of its encryption.
pub(super) struct EncryptedKey<'a> {
    pub(super) algorithm: AlgorithmIdentifierRef<'a>,
    pub(super) data: &'a [u8],
}

impl<'a> EncryptedKey<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, StoreFault> {
        let parse = || {
            let mut reader = SliceReader::new(der)?;
            let key = reader.sequence(|reader| {
                let algorithm = AlgorithmIdentifierRef::decode(reader)?;
                let data = <&OctetStringRef>::decode(reader)?.as_bytes();
                Ok::<_, der::Error>(EncryptedKey { algorithm, data })
            })?;
            reader.finish()?;
            Ok(key)
        };
        parse().map_err(|error: der::Error| StoreFault::Damaged(format!("an encrypted key: {error}")))
    }
}

/// The PKCS#8 key in `der`, decrypted with its own password or, without one, the store's.
pub(crate) fn decrypt(der: &[u8], passwords: &ResolvedPasswords) -> Result<Zeroizing<Vec<u8>>, StoreFault> {
    let EncryptedKey { algorithm, data } = EncryptedKey::parse(der)?;
    let parameters = parameters(algorithm)?;
    check_cost(&parameters.kdf)?;
    let password = passwords.key.as_ref().or(passwords.store.as_ref()).ok_or(StoreFault::NoPassword)?;
    let mut buffer = Zeroizing::new(data.to_vec());
    let key = parameters.decrypt_in_place(Secret::expose(password), &mut buffer).map_err(|error| match error {
        Error::DecryptFailed => StoreFault::WrongPassword,
        other => StoreFault::Damaged(other.to_string()),
    })?;
    // With a wrong password one padding in 256 looks right; what it leads to does not.
    if is_pkcs8(key) { Ok(Zeroizing::new(key.to_vec())) } else { Err(StoreFault::WrongPassword) }
}

fn parameters(algorithm: AlgorithmIdentifierRef<'_>) -> Result<Parameters, StoreFault> {
    if algorithm.oid != PBES2_OID {
        return Err(StoreFault::EncryptedKey(if is_pbes1(algorithm.oid) {
            "encrypted with PBES1 (DES, 3DES or RC2)"
        } else {
            "encrypted in a way that is not known here"
        }));
    }
    let parameters = algorithm.parameters.ok_or_else(|| StoreFault::Damaged("PBES2 without parameters".into()))?;
    Parameters::try_from(parameters).map_err(|error| match error.kind() {
        ErrorKind::OidUnknown { .. } => {
            StoreFault::EncryptedKey("encrypted with PBES2, but not with AES and PBKDF2 or scrypt")
        }
        _ => StoreFault::Damaged(format!("parameters of PBES2: {error}")),
    })
}

/// PKCS#5 1.5 and the like of PKCS#12: the first passwords-to-keys schemes, all with broken or slow ciphers.
fn is_pbes1(oid: ObjectIdentifier) -> bool {
    let oid = oid.to_string();
    oid.starts_with("1.2.840.113549.1.5.") || oid.starts_with("1.2.840.113549.1.12.1.")
}

fn check_cost(kdf: &Kdf) -> Result<(), StoreFault> {
    let affordable = match kdf {
        Kdf::Pbkdf2(parameters) => (1..=MAX_ITERATIONS).contains(&parameters.iteration_count),
        Kdf::Scrypt(parameters) => affordable_scrypt(parameters),
        _ => false,
    };
    if affordable { Ok(()) } else { Err(too_costly()) }
}

/// Refuses bytes in which scrypt is named with parameters that we would not run. For PKCS#12, whose reader would spend a
/// GiB on them and does not survive N = 0; it bounds PBKDF2 as we do.
pub(super) fn check_scrypt_within(bytes: &[u8]) -> Result<(), StoreFault> {
    let mut rest = bytes;
    while let Some((_, after)) = split_once(rest, SCRYPT_OID.as_bytes()) {
        let parameters = SliceReader::new(after).and_then(|mut reader| ScryptParams::decode(&mut reader));
        if parameters.is_ok_and(|parameters| !affordable_scrypt(&parameters)) {
            return Err(too_costly());
        }
        rest = after;
    }
    Ok(())
}

fn too_costly() -> StoreFault {
    StoreFault::Damaged(format!(
        "its password costs too much to check: more than {MAX_ITERATIONS} iterations, or {} MiB of scrypt",
        MAX_SCRYPT_BYTES / (1024 * 1024)
    ))
}

/// N must be a power of two from 2 on; pkcs5 relies on it.
fn affordable_scrypt(parameters: &ScryptParams) -> bool {
    let n = parameters.cost_parameter;
    let memory = n.checked_mul(128 * u64::from(parameters.block_size));
    let work = memory.and_then(|bytes| bytes.checked_mul(parameters.parallelization.into()));
    n >= 2
        && n.is_power_of_two()
        && memory.is_some_and(|bytes| (1..=MAX_SCRYPT_BYTES).contains(&bytes))
        && work.is_some_and(|bytes| (1..=MAX_SCRYPT_WORK_BYTES).contains(&bytes))
}

/// Whether `der` is one sequence that begins with a version, an algorithm and a key.
fn is_pkcs8(der: &[u8]) -> bool {
    let parse = || {
        let mut reader = SliceReader::new(der)?;
        reader.sequence(|reader| {
            u8::decode(reader)?;
            AlgorithmIdentifierRef::decode(reader)?;
            <&OctetStringRef>::decode(reader)?;
            reader.drain(reader.remaining_len())
        })?;
        reader.finish()
    };
    parse().is_ok_and(|()| true)
}
