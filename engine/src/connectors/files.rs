//! Files of a source: which ones, and their bytes, unpacked if they are gzip.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::TaskError;

/// Bytes read from a file at a time.
const READ_BUFFER_BYTES: usize = 64 * 1024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A path as the script gives it; Flink writes `file:///dir`.
pub(super) fn local_path(text: &str) -> PathBuf {
    PathBuf::from(text.strip_prefix("file://").unwrap_or(text))
}

/// The file itself or, for a directory, its files in the order of their names; hidden ones (`.x`,
/// `_x`) are left out, as in Flink.
pub(super) fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with(['.', '_']);
        if !hidden && fs::metadata(entry.path())?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Opens a file for reading, unpacked.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = BufReader::with_capacity(READ_BUFFER_BYTES, File::open(path)?);
    if file.fill_buf()?.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, MultiGzDecoder::new(file))))
    } else {
        Ok(Box::new(file))
    }
}

/// Writes the unpacked bytes of `from` to `to`. Blocking.
pub(crate) fn plain_copy(from: &Path, to: &mut impl Write) -> Result<(), TaskError> {
    let mut copy = || io::copy(&mut open(from)?, to);
    copy().map(drop).map_err(|source| TaskError::File { path: from.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn unpacks_by_content_not_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"one\n").unwrap();
        let mut members = gzip.finish().unwrap();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"two\n").unwrap();
        members.extend(gzip.finish().unwrap());
        for (name, bytes) in [("packed.csv", members.as_slice()), ("plain.gz", b"one\ntwo\n"), ("empty", b"")] {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            let mut out = Vec::new();
            plain_copy(&path, &mut out).unwrap();
            assert_eq!(out, if name == "empty" { &b""[..] } else { b"one\ntwo\n" }, "{name}");
        }
    }

    #[test]
    fn lists_files_by_name_without_hidden_ones_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".hidden", "_SUCCESS"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("c")).unwrap();
        assert_eq!(list(dir.path()).unwrap(), [dir.path().join("a"), dir.path().join("b")]);
        assert_eq!(list(&dir.path().join("a")).unwrap(), [dir.path().join("a")]);
        assert!(list(&dir.path().join("none")).is_err());
    }
}
