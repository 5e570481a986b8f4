//! One consistent read of every file of a bundle, with digests that tell whether anything changed.

use crate::error::MaterialError;
use crate::generation::Files;
use crate::options::BundleOptions;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A keystore larger than this (bytes) is a mistake, not a keystore.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// How often a read that met a writer is tried again before it is given up until the next event.
const TORN_READ_ATTEMPTS: usize = 3;

/// SHA-256 of the content and the resolved place of each file. Equal digests mean nothing changed, whatever the
/// modification times say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digests(BTreeMap<PathBuf, [u8; 32]>);

impl Digests {
    /// One digest for people and status pages: equal wherever the same files lie, in whichever places.
    ///
    /// `secrets` are left out. Together with a store they would make a digest by which its password can be guessed
    /// faster than the store itself allows.
    pub(crate) fn combined(&self, secrets: &[PathBuf]) -> [u8; 32] {
        let files = self.0.iter().filter(|(path, _)| !secrets.contains(path));
        let mut digests: Vec<&[u8; 32]> = files.map(|(_, digest)| digest).collect();
        digests.sort();
        digests.iter().fold(Sha256::new(), |sha256, digest| sha256.chain_update(digest)).finalize().into()
    }
}

/// Reads all files twice until both reads agree in content *and* in the resolved target of every symlink.
///
/// Blocking: call it from a blocking thread.
///
/// # Errors
/// A file that is missing, unreadable, too large, or that changes under every attempt.
pub(crate) fn read_consistently(options: &BundleOptions) -> Result<(Files, Digests), MaterialError> {
    let paths = &options.paths();
    for _ in 0..TORN_READ_ATTEMPTS {
        let before = resolve(paths)?;
        let (files, digests) = read(paths)?;
        let (_, again) = read(paths)?;
        if digests == again && before == resolve(paths)? {
            return Ok((files, digests));
        }
    }
    Err(MaterialError::Unstable { bundle: options.name.clone() })
}

fn resolve(paths: &[PathBuf]) -> Result<Vec<PathBuf>, MaterialError> {
    paths.iter().map(|path| path.canonicalize().map_err(|error| unreadable(path, error))).collect()
}

fn read(paths: &[PathBuf]) -> Result<(Files, Digests), MaterialError> {
    let mut files = Files { map: BTreeMap::new() };
    let mut digests = BTreeMap::new();
    for path in paths {
        let bytes = read_one(path)?;
        digests.insert(path.clone(), Sha256::digest(bytes.as_slice()).into());
        files.map.insert(path.clone(), bytes);
    }
    Ok((files, Digests(digests)))
}

fn read_one(path: &Path) -> Result<Zeroizing<Vec<u8>>, MaterialError> {
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, error))?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(path, io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes"))));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: io::Error) -> MaterialError {
    MaterialError::Unreadable { path: path.to_owned(), error }
}
