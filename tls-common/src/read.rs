//! One consistent read of every file of a bundle, with digests that tell whether anything changed.

mod listing;

use crate::error::MaterialError;
use crate::generation::Files;
use crate::options::BundleOptions;
use crate::store::holds_certificates;
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A keystore larger than this (bytes) is a mistake, not a keystore; so is a directory of certificates, all together.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// How often a read that met a writer is tried again before it is given up until the next event.
const TORN_READ_ATTEMPTS: usize = 3;

/// SHA-256 of the content of each file. Equal digests mean nothing changed, whatever the
/// modification times say.
///
/// Of a truststore's directory the files with certificates count: one that comes, goes or changes is a change, and
/// whatever else lies there is not.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Digests(BTreeMap<PathBuf, [u8; 32]>);

/// Only which files: the digest of a password file would help to guess the password.
impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

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
    for _ in 0..TORN_READ_ATTEMPTS {
        let before = resolve(options)?;
        let (files, digests) = read(options)?;
        let (_, again) = read(options)?;
        if digests == again && before == resolve(options)? {
            return Ok((files, digests));
        }
    }
    Err(MaterialError::Unstable { bundle: options.name.clone() })
}

/// When the newest of the bundle's files was written, renamed or otherwise changed, in milliseconds since the Unix epoch.
/// `None` if there is none.
pub(crate) fn newest_change_ms(options: &BundleOptions) -> Option<i64> {
    let changed = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(metadata.ctime() * 1000 + metadata.ctime_nsec() / 1_000_000)
    };
    options.paths().iter().filter_map(changed).max()
}

fn resolve(options: &BundleOptions) -> Result<Vec<PathBuf>, MaterialError> {
    let mut resolved = Vec::new();
    for path in options.paths() {
        resolved.push(path.canonicalize().map_err(|error| unreadable(&path, error))?);
        if is_directory_of_certificates(&path, options) {
            // A file that has just gone resolves to nothing; the second look tells.
            resolved.extend(listing::list(&path)?.iter().filter_map(|file| file.canonicalize().ok()));
        }
    }
    Ok(resolved)
}

fn read(options: &BundleOptions) -> Result<(Files, Digests), MaterialError> {
    let mut files = Files::default();
    let mut digests = BTreeMap::new();
    for path in options.paths() {
        if is_directory_of_certificates(&path, options) {
            read_directory(path, &mut files, &mut digests)?;
        } else {
            let bytes = read_one(&path, MAX_FILE_BYTES).map_err(|error| unreadable(&path, error))?;
            digests.insert(path.clone(), digest(&bytes));
            files.map.insert(path, bytes);
        }
    }
    Ok((files, Digests(digests)))
}

fn read_directory(
    directory: PathBuf,
    files: &mut Files,
    digests: &mut BTreeMap<PathBuf, [u8; 32]>,
) -> Result<(), MaterialError> {
    let listed = listing::list(&directory)?;
    let mut bytes_left = MAX_FILE_BYTES;
    for path in &listed {
        let bytes = match read_one(path, bytes_left) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue, // gone since it was listed
            Err(error) => return Err(unreadable(path, error)),
        };
        bytes_left = bytes_left.saturating_sub(bytes.len() as u64);
        if holds_certificates(&bytes) {
            digests.insert(path.clone(), digest(&bytes));
        }
        files.map.insert(path.clone(), bytes);
    }
    // Itself, by what no content hashes to: a directory is never the same as a file in its place.
    digests.insert(directory.clone(), [0; 32]);
    files.directories.insert(directory, listed);
    Ok(())
}

/// Only a truststore may be a directory.
fn is_directory_of_certificates(path: &Path, options: &BundleOptions) -> bool {
    options.truststore.as_ref().is_some_and(|truststore| truststore.path == path) && path.is_dir()
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn read_one(path: &Path, most_bytes: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // A pipe in a file's place would be waited for; the flag means nothing to files.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    // All at once: a vector that grows leaves copies of keys and passwords behind.
    let expected = usize::try_from(metadata.len().min(most_bytes) + 1).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected));
    file.take(most_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        return Err(io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes (a directory: all its files)")));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: io::Error) -> MaterialError {
    MaterialError::Unreadable { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests;
