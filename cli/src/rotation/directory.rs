//! A directory whose files change together, and the ways in which operators change them.
//!
//! Three layouts are in the field: plain files that are rewritten or renamed over, and the projected volume of
//! Kubernetes, where the visible names are symlinks into `..data`, itself a symlink that one rename swaps:
//!
//! ```text
//!  internal.keystore.p12 -> ..data/internal.keystore.p12
//!  ..data                -> ..1795220404974.7
//!  ..1795220404974.7/internal.keystore.p12
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::RotationError;

/// File name to content: all files of one bundle.
pub type FileSet = BTreeMap<String, Vec<u8>>;

/// How a set of files is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Truncate and write each file, as `cp` and keytool do. A reader may see half a file.
    InPlace,
    /// Write each file under a temporary name beside it, then rename it over the old one.
    RenameBeside,
    /// Write each file in another directory of the same file system, then rename it over the old one.
    RenameFromOutside,
    /// Kubernetes: write a new directory, then swap the `..data` symlink with one rename.
    SymlinkSwap,
}

impl Way {
    /// All ways, in the order in which a rotator cycles through them.
    pub const ALL: [Way; 4] = [Way::InPlace, Way::RenameBeside, Way::RenameFromOutside, Way::SymlinkSwap];
}

/// The directory of one bundle, and what is in it now.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Where files are prepared; a sibling, so that a rename stays within the file system and unseen by a watch on `path`.
    staging: PathBuf,
    files: FileSet,
    /// The directory that `..data` points to, when the layout is Kubernetes'.
    projected: Option<PathBuf>,
    swaps: u64,
}

impl Directory {
    /// Creates `path` (mode 0700) with `files` as plain files (mode 0600). Existing files of these names are an error.
    pub fn create(path: &Path, files: FileSet) -> Result<Self, RotationError> {
        let staging = staging(path);
        create_dir(path)?;
        create_dir(&staging)?;
        create_files(path, &files)?;
        Ok(Self { path: path.to_owned(), staging, files, projected: None, swaps: 0 })
    }

    /// The files `names` that are in `path`, plain or projected. What a writer that was killed in the middle has left
    /// there is removed; nobody else may be writing.
    pub(super) fn open(path: &Path, names: &[&str]) -> Result<Self, RotationError> {
        let current = fs::read_link(path.join(DATA)).ok();
        for entry in fs::read_dir(path).map_err(unread(path))? {
            let entry = entry.map_err(unread(path))?;
            let (name, left) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            let link = name == DATA_TMP || name.starts_with('.') && name.ends_with(TMP) && !name.starts_with("..");
            if link {
                fs::remove_file(&left).map_err(at(&left))?;
            } else if name.starts_with("..") && name != DATA && Some(Path::new(&*name)) != current.as_deref() {
                fs::remove_dir_all(&left).map_err(at(&left))?;
            }
        }
        let read = |name: &&str| {
            let file = path.join(name);
            fs::read(&file).map_err(unread(&file)).map(|bytes| ((*name).to_owned(), bytes))
        };
        Ok(Self {
            path: path.to_owned(),
            staging: staging(path),
            files: names.iter().map(read).collect::<Result<_, _>>()?,
            projected: current.map(|name| path.join(name)),
            swaps: 0,
        })
    }

    /// Where the files are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces all files. A change of layout happens first and with the old content, so that it is no change to a
    /// reader that goes by content.
    pub fn replace(&mut self, files: FileSet, way: Way) -> Result<(), RotationError> {
        if !files.keys().eq(self.files.keys()) {
            return Err(RotationError::DifferentFiles { path: self.path.clone() });
        }
        match way {
            Way::SymlinkSwap => {
                self.make_projected()?;
                self.swap(&files)?;
            }
            Way::InPlace => {
                self.make_plain()?;
                for (name, bytes) in &files {
                    overwrite(&self.path.join(name), bytes)?;
                }
            }
            Way::RenameBeside => {
                self.make_plain()?;
                for (name, bytes) in &files {
                    self.rename_over(&self.path.join(format!(".{name}{TMP}")), name, bytes)?;
                }
            }
            Way::RenameFromOutside => {
                self.make_plain()?;
                for (name, bytes) in &files {
                    self.rename_over(&self.staging.join(name), name, bytes)?;
                }
            }
        }
        self.files = files;
        Ok(())
    }

    /// Turns the visible symlinks back into files, each by one rename.
    fn make_plain(&mut self) -> Result<(), RotationError> {
        create_dir(&self.staging)?;
        let Some(projected) = self.projected.take() else { return Ok(()) };
        for (name, bytes) in &self.files {
            self.rename_over(&self.staging.join(name), name, bytes)?;
        }
        let data = self.path.join(DATA);
        fs::remove_file(&data).map_err(at(&data))?;
        fs::remove_dir_all(&projected).map_err(at(&projected))
    }

    /// Turns the visible files into symlinks into `..data`, each by one rename. Who was killed at it before has left some
    /// of them plain.
    fn make_projected(&mut self) -> Result<(), RotationError> {
        let target = |name: &str| Path::new(DATA).join(name);
        let is_plain = |name: &&String| fs::read_link(self.path.join(name)).map_or(true, |link| link != target(name));
        let plain: Vec<String> = self.files.keys().filter(is_plain).cloned().collect();
        if plain.is_empty() {
            return Ok(());
        }
        let files = self.files.clone();
        self.swap(&files)?;
        for name in plain {
            let (link, visible) = (self.path.join(format!(".{name}{TMP}")), self.path.join(&name));
            symlink(target(&name), &link).map_err(at(&link))?;
            fs::rename(&link, &visible).map_err(at(&visible))?;
        }
        Ok(())
    }

    /// The order of operations of the kubelet's atomic writer.
    fn swap(&mut self, files: &FileSet) -> Result<(), RotationError> {
        self.swaps += 1;
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis());
        let name = format!("..{unix_ms}.{}", self.swaps);
        let fresh = self.path.join(&name);
        create_dir(&fresh)?;
        create_files(&fresh, files)?;
        sync(&fresh)?;
        let (link, data) = (self.path.join(DATA_TMP), self.path.join(DATA));
        symlink(&name, &link).map_err(at(&link))?;
        fs::rename(&link, &data).map_err(at(&data))?;
        if let Some(old) = self.projected.replace(fresh) {
            // The new files are in force, whatever becomes of the old ones; who opens the directory next sweeps them away.
            let _ = fs::remove_dir_all(old);
        }
        Ok(())
    }

    fn rename_over(&self, temporary: &Path, name: &str, bytes: &[u8]) -> Result<(), RotationError> {
        let visible = self.path.join(name);
        write_new(temporary, bytes)?;
        fs::rename(temporary, &visible).map_err(at(&visible))
    }
}

/// Writes `files` (mode 0600) into an existing directory. If one of them exists already, nothing is written.
fn create_files(directory: &Path, files: &FileSet) -> Result<(), RotationError> {
    refuse_existing(directory, files)?;
    files.iter().try_for_each(|(name, bytes)| write_new(&directory.join(name), bytes))
}

/// As `create_files`, for files that make sense together only: all of them are on disk before the first has its name.
pub(crate) fn create_together(directory: &Path, files: &FileSet) -> Result<(), RotationError> {
    refuse_existing(directory, files)?;
    let fresh = directory.join(NEW);
    // Of one that was killed before it had given any name.
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&fresh)(error)),
        _ => create_dir(&fresh)?,
    }
    create_files(&fresh, files)?;
    for name in files.keys() {
        let visible = directory.join(name);
        fs::rename(fresh.join(name), &visible).map_err(at(&visible))?;
    }
    fs::remove_dir(&fresh).map_err(at(&fresh))?;
    sync(directory)
}

fn refuse_existing(directory: &Path, files: &FileSet) -> Result<(), RotationError> {
    let mut paths = files.keys().map(|name| directory.join(name));
    match paths.find(|path| path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(existing) => {
            Err(at(&existing)(io::Error::new(io::ErrorKind::AlreadyExists, "it exists; nothing was written")))
        }
    }
}

/// Makes the names in a directory survive a loss of power.
fn sync(directory: &Path) -> Result<(), RotationError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

/// Creates a directory (and its parents) that only its owner may enter. One that exists stays as it is.
pub(crate) fn create_dir(path: &Path) -> Result<(), RotationError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Writes a file that must not exist yet and that only its owner may read.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), RotationError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data())).map_err(at(path))
}

fn overwrite(path: &Path, bytes: &[u8]) -> Result<(), RotationError> {
    let file = OpenOptions::new().write(true).truncate(true).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(at(path))
}

/// A sibling of `path`.
fn staging(path: &Path) -> PathBuf {
    let mut staging = path.as_os_str().to_owned();
    staging.push(".staging");
    PathBuf::from(staging)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RotationError {
    let path = path.to_owned();
    move |cause| RotationError::File { path, cause }
}

pub(super) fn unread(path: &Path) -> impl FnOnce(io::Error) -> RotationError {
    let path = path.to_owned();
    move |cause| RotationError::Read { path, cause }
}

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";
/// Where files are until all of them are complete.
const NEW: &str = "..new";
/// End of the name of a file that is to be renamed.
const TMP: &str = ".tmp";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(step: u8) -> FileSet {
        ["a.p12", "b.p12"].iter().map(|name| ((*name).to_owned(), vec![step; 100])).collect()
    }

    fn visible(directory: &Directory) -> FileSet {
        let read = |name: &String| (name.clone(), fs::read(directory.path().join(name)).unwrap());
        directory.files.keys().map(read).collect()
    }

    fn entries(path: &Path) -> Vec<String> {
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn every_way_may_follow_every_other() {
        let scratch = tempfile::tempdir().unwrap();
        let mut directory = Directory::create(&scratch.path().join("tls"), files(0)).unwrap();
        let mut step = 0;
        for first in Way::ALL {
            for second in Way::ALL {
                for way in [first, second] {
                    step += 1;
                    directory.replace(files(step), way).unwrap();
                    assert_eq!(visible(&directory), files(step), "{way:?} at step {step}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_left_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let mut directory = Directory::create(&scratch.path().join("tls"), files(0)).unwrap();
        for (step, way) in Way::ALL.into_iter().cycle().take(12).enumerate() {
            directory.replace(files(u8::try_from(step).unwrap()), way).unwrap();
            let expected = if way == Way::SymlinkSwap { 4 } else { 2 };
            assert_eq!(entries(directory.path()).len(), expected, "{way:?}: {:?}", entries(directory.path()));
            assert_eq!(entries(&directory.staging), Vec::<String>::new());
        }
    }

    #[test]
    fn the_symlink_layout_is_that_of_kubernetes() {
        let scratch = tempfile::tempdir().unwrap();
        let mut directory = Directory::create(&scratch.path().join("tls"), files(0)).unwrap();
        directory.replace(files(1), Way::SymlinkSwap).unwrap();
        let visible = directory.path().join("a.p12");
        assert_eq!(fs::read_link(&visible).unwrap(), Path::new("..data/a.p12"));
        let first = fs::read_link(directory.path().join(DATA)).unwrap();
        directory.replace(files(2), Way::SymlinkSwap).unwrap();
        assert_ne!(fs::read_link(directory.path().join(DATA)).unwrap(), first);
    }

    #[test]
    fn only_the_owner_may_read_and_nothing_is_overwritten_at_creation() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("tls");
        let directory = Directory::create(&path, files(0)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(directory.path()), 0o700);
        assert_eq!(mode(&path.join("a.p12")), 0o600);
        assert!(matches!(Directory::create(&path, files(1)), Err(RotationError::File { .. })));
        assert_eq!(visible(&directory), files(0));
    }

    #[test]
    fn files_that_were_begun_and_never_named_are_made_again() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join(NEW)).unwrap();
        fs::write(scratch.path().join(NEW).join("a.p12"), "half").unwrap();
        create_together(scratch.path(), &files(1)).unwrap();
        assert_eq!(entries(scratch.path()).len(), 2);
        assert_eq!(fs::read(scratch.path().join("a.p12")).unwrap(), files(1)["a.p12"]);
    }

    #[test]
    fn a_replacement_with_other_files_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let mut directory = Directory::create(&scratch.path().join("tls"), files(0)).unwrap();
        let other = FileSet::from([("c.p12".to_owned(), vec![1])]);
        assert!(matches!(directory.replace(other, Way::InPlace), Err(RotationError::DifferentFiles { .. })));
        assert_eq!(visible(&directory), files(0));
    }
}
