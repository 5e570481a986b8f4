//! Blobs on disk: one file per blob, named by the SHA-256 of its bytes. Blocking; call it off the async threads.
//!
//! A file gets its name only when all of it is on disk and has that digest, so a half-sent upload or a crash leaves
//! nothing that could be taken for a blob. Every read checks the digest again. The name of a file comes from a
//! [`Digest`] and from nothing a peer wrote.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, BufRead, BufReader, Read, Seek, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use proto::blob::{BLOB_BYTES_MAX, Digest};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use thiserror::Error;
use tracing::info;

/// A directory of blobs, used by one process at a time.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// Locked for as long as this process uses the directory; the system releases it even after a kill.
    _lock: File,
}

impl Store {
    /// Opens or creates (readable by this user only) the directory and removes what unfinished uploads left there.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open, [`StoreError::Io`] if it cannot be made or written.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(StoreError::io("create directory", directory))?;
        let path = directory.join(LOCK_FILE);
        let lock = File::create(&path).map_err(StoreError::io("create", &path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::InUse(directory.to_owned()),
            TryLockError::Error(source) => StoreError::io("lock", &path)(source),
        })?;
        let store = Self { directory: directory.to_owned(), _lock: lock };
        store.remove_unfinished()?;
        Ok(store)
    }

    /// Whether the blob is here, whole and undamaged. A damaged one does not count: storing it again repairs it.
    pub fn holds(&self, digest: &Digest) -> Result<bool, StoreError> {
        match self.read(digest) {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound(_) | StoreError::Corrupt(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Starts to store a blob of that digest.
    pub fn create(&self, digest: Digest) -> Result<Upload, StoreError> {
        let file = tempfile::Builder::new()
            .prefix(UPLOAD_PREFIX)
            .tempfile_in(&self.directory)
            .map_err(StoreError::io("create a file in", &self.directory))?;
        Ok(Upload { file, hash: Sha256::new(), digest, directory: self.directory.clone() })
    }

    /// The blob's file, at its beginning, and its length in bytes. All of it has been read and has the right digest.
    pub fn read(&self, digest: &Digest) -> Result<(File, u64), StoreError> {
        let path = self.path(digest);
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound(*digest),
            _ => StoreError::io("open", &path)(error),
        })?;
        let (found, length) = hash_file(&mut file).map_err(StoreError::io("read", &path))?;
        if found != *digest || length > BLOB_BYTES_MAX {
            return Err(StoreError::Corrupt(*digest));
        }
        file.rewind().map_err(StoreError::io("read", &path))?;
        Ok((file, length))
    }

    /// Removes the blob; fine if it is not here. Whoever is reading it still gets all of it.
    pub fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }

    fn remove_unfinished(&self) -> Result<(), StoreError> {
        let entries = fs::read_dir(&self.directory).map_err(StoreError::io("list", &self.directory))?;
        for entry in entries {
            let entry = entry.map_err(StoreError::io("list", &self.directory))?;
            if entry.file_name().as_encoded_bytes().starts_with(UPLOAD_PREFIX.as_bytes()) {
                let path = entry.path();
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                info!(path = %path.display(), "removed an unfinished upload");
            }
        }
        Ok(())
    }
}

/// A blob on its way in. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    file: NamedTempFile,
    hash: Sha256,
    digest: Digest,
    directory: PathBuf,
}

impl Upload {
    /// Appends the next bytes.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        self.hash.update(chunk);
        self.file.write_all(chunk).map_err(StoreError::io("write", self.file.path()))
    }

    /// Makes the blob visible and durable.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if the bytes have another digest than announced: nothing is stored.
    pub fn finish(self) -> Result<(), StoreError> {
        let found = finish(self.hash);
        if found != self.digest {
            return Err(StoreError::Mismatch { announced: self.digest, found });
        }
        let path = self.directory.join(self.digest.to_string());
        self.file.as_file().sync_all().map_err(StoreError::io("write", &path))?;
        self.file.persist(&path).map_err(|error| StoreError::io("rename a file to", &path)(error.error))?;
        // The name is durable once the directory is.
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(StoreError::io("write directory", &self.directory))
    }
}

/// The name of these bytes as a blob.
pub fn digest(data: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(data).into())
}

/// What can go wrong on disk, or with what is to be stored there.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The caller's: there is no such blob.
    #[error("there is no blob {0}")]
    NotFound(Digest),
    /// The disk's: somebody or something changed the file.
    #[error("the file of blob {0} is damaged: store the blob again")]
    Corrupt(Digest),
    /// The sender's: it sent other bytes than it announced.
    #[error("blob {announced} was announced, but the bytes that came have the digest {found}")]
    Mismatch { announced: Digest, found: Digest },
    /// The operator's: two servers, one directory.
    #[error("{} is used by another blob server: give each its own blob.storage.directory", .0.display())]
    InUse(PathBuf),
    /// The machine's.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// The process is being stopped.
    #[error("the blob server is stopping")]
    Stopping,
}

impl StoreError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

fn finish(hash: Sha256) -> Digest {
    Digest::from_bytes(hash.finalize().into())
}

/// Digest and length of what is in the file, of which no more is read than a blob may have and one byte.
fn hash_file(file: &mut File) -> io::Result<(Digest, u64)> {
    let mut hash = Sha256::new();
    let mut length = 0;
    let mut bytes = BufReader::with_capacity(READ_BYTES, file.take(BLOB_BYTES_MAX + 1));
    loop {
        let chunk = bytes.fill_buf()?;
        if chunk.is_empty() {
            return Ok((finish(hash), length));
        }
        hash.update(chunk);
        let read = chunk.len();
        length += read as u64;
        bytes.consume(read);
    }
}

/// Bytes read from disk at once.
const READ_BYTES: usize = 64 << 10;

const LOCK_FILE: &str = ".lock";
const UPLOAD_PREFIX: &str = ".upload-";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    fn put(store: &Store, data: &[u8]) -> Digest {
        let digest = digest(data);
        let mut upload = store.create(digest).unwrap();
        data.chunks(7).for_each(|chunk| upload.write(chunk).unwrap());
        upload.finish().unwrap();
        digest
    }

    fn get(store: &Store, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let (mut file, length) = store.read(digest)?;
        let mut data = Vec::new();
        file.read_to_end(&mut data).unwrap();
        assert_eq!(data.len() as u64, length);
        Ok(data)
    }

    /// Everything in the directory but the lock.
    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != LOCK_FILE)
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_stored_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/if/missing");
        let store = Store::open(&path).unwrap();
        let (script, nothing) = (put(&store, b"SELECT 1"), put(&store, b""));
        assert_eq!(put(&store, b"SELECT 1"), script, "storing twice is fine");
        drop(store);

        let store = Store::open(&path).unwrap();
        assert_eq!(get(&store, &script).unwrap(), b"SELECT 1");
        assert_eq!(get(&store, &nothing).unwrap(), b"");
        assert!(store.holds(&script).unwrap());
        assert_eq!(names(&path).len(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn deleted_is_gone_except_for_its_readers() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = put(&store, b"bytes");
        let (mut open, _) = store.read(&digest).unwrap();
        store.delete(&digest).unwrap();
        store.delete(&digest).unwrap();
        assert!(matches!(store.read(&digest), Err(StoreError::NotFound(d)) if d == digest));
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bytes");
    }

    #[test]
    fn an_unfinished_or_wrong_upload_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut half = store.create(digest(b"all of it")).unwrap();
        half.write(b"all").unwrap();
        assert_eq!(names(directory.path()).len(), 1);
        drop(half);

        let mut wrong = store.create(digest(b"one")).unwrap();
        wrong.write(b"other").unwrap();
        assert!(matches!(wrong.finish(), Err(StoreError::Mismatch { .. })));
        assert!(names(directory.path()).is_empty());
        assert!(!store.holds(&digest(b"one")).unwrap());
    }

    #[test]
    fn what_a_crash_left_is_removed_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".upload-x1y2z3"), b"half").unwrap();
        let digest = put(&Store::open(directory.path()).unwrap(), b"whole");
        assert_eq!(names(directory.path()), [digest.to_string()]);
    }

    #[test]
    fn a_damaged_file_is_noticed_and_can_be_stored_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = put(&store, b"good");
        for damage in [&b"evil"[..], b"goo", b"goods", b""] {
            fs::write(store.path(&digest), damage).unwrap();
            assert!(matches!(store.read(&digest), Err(StoreError::Corrupt(d)) if d == digest));
            assert!(!store.holds(&digest).unwrap());
        }
        put(&store, b"good");
        assert_eq!(get(&store, &digest).unwrap(), b"good");
    }

    #[test]
    fn a_directory_serves_one_process() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::InUse(_)), "{error}");
        drop(store);
        Store::open(directory.path()).unwrap();
    }

    #[test]
    fn an_unusable_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let error = Store::open(&file).unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
}
