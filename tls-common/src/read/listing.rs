//! Which files of a truststore's directory are read.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::unreadable;
use crate::MaterialError;

/// A directory with more files than this is no directory of CA certificates. (A distribution's has about 500, each
/// certificate twice.)
const MAX_FILES: usize = 1024;

/// The files in `directory`, sorted. Names that start with a dot are skipped (Kubernetes keeps the real files under
/// `..data`, and a copy still being written is best called so), so are sub-directories, whatever is no regular file, and links to nowhere: `openssl rehash` leaves them
/// behind, and between the two steps of a Kubernetes update they are what a removed file looks like.
pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>, MaterialError> {
    let mut files = Vec::new();
    for entry in directory.read_dir().map_err(|error| unreadable(directory, error))? {
        let entry = entry.map_err(|error| unreadable(directory, error))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => files.push(path),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&path, error)),
        }
        if files.len() > MAX_FILES {
            return Err(unreadable(directory, io::Error::other(format!("more than {MAX_FILES} files in it"))));
        }
    }
    files.sort();
    Ok(files)
}
