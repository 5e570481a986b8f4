//! A directory of files that change together, and the ways in which operators change them.
//!
//! ```text
//!  root/tls/              what a configuration names: root/tls/NAME, in every layout
//!  root/elsewhere/        beside it, on the same file system and followed by nobody: staging, archives, versions
//! ```

use super::{Change, Step};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// File name to content: all files of one set.
pub type FileSet = BTreeMap<String, Vec<u8>>;

/// How a set of files is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Truncate and write each file, as `cp` and keytool do. A reader may see half a file, or half the set.
    InPlace,
    /// The same, each file in pieces of this many bytes.
    InPieces(usize),
    /// In place, and the modification time set back to what it was; every file must keep its size. For a follower that
    /// goes by times and sizes nothing has changed.
    InPlaceUnchangedTimes,
    /// In place through a second name of each file, which lies elsewhere. The system reports it under that name: for
    /// whoever watches the directory this is a file system without events, as NFS and many FUSE ones are.
    HardLink,
    /// Write each file under a temporary name beside it, then rename it over the old one.
    RenameBeside,
    /// Write each file in another directory of the same file system, then rename it over the old one.
    RenameFromElsewhere,
    /// Kubernetes: `NAME -> ..data/NAME`, `..data -> ..TIME`. Write a new directory, then swap `..data` with one rename.
    AtomicWriter,
    /// certbot, Vault's agent: `NAME -> ../elsewhere/N.NAME`, each link swapped with one rename.
    SwappedLinks,
    /// The directory is itself a link to a version, swapped with one rename.
    SwappedDirectoryLink,
    /// The directory is renamed away and a new one renamed into its place.
    SwappedDirectory,
    /// The directory is removed with all that is in it, and made anew.
    RecreatedDirectory,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::InPlace,
        Self::InPieces(512),
        Self::InPlaceUnchangedTimes,
        Self::HardLink,
        Self::RenameBeside,
        Self::RenameFromElsewhere,
        Self::AtomicWriter,
        Self::SwappedLinks,
        Self::SwappedDirectoryLink,
        Self::SwappedDirectory,
        Self::RecreatedDirectory,
    ];
}

/// A directory of files that are replaced in one way.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    way: Way,
    version: u64,
}

impl Directory {
    /// Lays `files` out under `root`, an empty directory, as whoever replaces files in this `way` has them.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(root: &Path, way: Way, files: &FileSet) -> io::Result<Self> {
        let directory = Self { root: root.to_owned(), way, version: 0 };
        let tls = directory.path();
        let mut steps = vec![Step::MakeDirectory(directory.elsewhere())];
        match way {
            Way::AtomicWriter => {
                steps.push(Step::MakeDirectory(tls.clone()));
                steps.extend(directory.project(files));
                steps.extend(
                    files.keys().map(|name| Step::Symlink { target: Path::new(DATA).join(name), link: tls.join(name) }),
                );
            }
            Way::SwappedLinks => {
                steps.push(Step::MakeDirectory(tls));
                steps.extend(directory.archive(files));
            }
            Way::SwappedDirectoryLink => steps.extend(directory.new_version(files, tls)),
            _ => {
                steps.push(Step::MakeDirectory(tls.clone()));
                steps.extend(write_all(&tls, files));
            }
        }
        if way == Way::HardLink {
            steps.extend(
                files.keys().map(|name| Step::HardLink {
                    original: directory.file(name),
                    link: directory.elsewhere().join(name),
                }),
            );
        }
        steps.into_iter().collect::<Change>().run()?;
        Ok(directory)
    }

    /// The directory that a configuration names.
    pub fn path(&self) -> PathBuf {
        self.root.join("tls")
    }

    /// The file that a configuration names.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A directory beside it on the same file system.
    pub fn elsewhere(&self) -> PathBuf {
        self.root.join("elsewhere")
    }

    /// Replaces the files at once.
    ///
    /// # Errors
    /// See [`Directory::plan`]; and what the system says.
    pub fn replace(&mut self, files: &FileSet) -> io::Result<()> {
        self.plan(files)?.run()
    }

    /// Everything that replaces the files, for the caller to run at its own pace before it plans again.
    ///
    /// Ways that go file by file leave out what is not in `files`; for the others `files` is the whole set.
    ///
    /// # Errors
    /// [`Way::InPlaceUnchangedTimes`] with a file of another size, or one that cannot be read.
    pub fn plan(&mut self, files: &FileSet) -> io::Result<Change> {
        let before = self.version;
        self.version += 1;
        let tls = self.path();
        let visible = |name: &String| tls.join(name);
        let steps: Vec<Step> = match self.way {
            Way::InPlace => write_all(&tls, files).collect(),
            Way::InPieces(bytes) => {
                let pieces = |(name, content): (&String, &Vec<u8>)| {
                    let append = |piece: &[u8]| Step::Append { path: visible(name), bytes: piece.to_vec() };
                    let appends: Vec<Step> = content.chunks(bytes.max(1)).map(append).collect();
                    std::iter::once(Step::Truncate(visible(name))).chain(appends)
                };
                files.iter().flat_map(pieces).collect()
            }
            Way::InPlaceUnchangedTimes => {
                let mut steps = Vec::new();
                for (name, content) in files {
                    let (path, now) = (visible(name), fs::metadata(visible(name))?);
                    if now.len() != content.len() as u64 {
                        return Err(io::Error::other(format!(
                            "{name} must keep its size of {} bytes, not get {}",
                            now.len(),
                            content.len()
                        )));
                    }
                    steps.push(Step::Write { path: path.clone(), bytes: content.clone() });
                    steps.push(Step::SetModified { path, time: now.modified()? });
                }
                steps
            }
            Way::HardLink => write_all(&self.elsewhere(), files).collect(),
            Way::RenameBeside => rename_over(files, |name| tls.join(format!(".{name}.tmp")), visible),
            Way::RenameFromElsewhere => rename_over(files, |name| self.elsewhere().join(name), visible),
            Way::AtomicWriter => {
                let old = tls.join(timestamped(before));
                self.project(files).chain([Step::RemoveDirectory(old)]).collect()
            }
            Way::SwappedLinks => self.archive(files).collect(),
            Way::SwappedDirectoryLink => self
                .new_version(files, self.elsewhere().join("next"))
                .chain([Step::Rename { from: self.elsewhere().join("next"), to: tls }])
                .collect(),
            Way::SwappedDirectory => {
                let (new, old) = (self.version_directory(self.version), self.version_directory(before));
                let mut steps = vec![Step::MakeDirectory(new.clone())];
                steps.extend(write_all(&new, files));
                steps.push(Step::Rename { from: tls.clone(), to: old });
                steps.push(Step::Rename { from: new, to: tls });
                steps
            }
            Way::RecreatedDirectory => {
                let anew = [Step::RemoveDirectory(tls.clone()), Step::MakeDirectory(tls.clone())];
                anew.into_iter().chain(write_all(&tls, files)).collect()
            }
        };
        Ok(steps.into_iter().collect())
    }

    /// The kubelet's order of operations up to the swap.
    fn project<'a>(&self, files: &'a FileSet) -> impl Iterator<Item = Step> + use<'a> {
        let tls = self.path();
        let (name, link) = (timestamped(self.version), tls.join("..data_tmp"));
        let fresh = tls.join(&name);
        let made = [Step::MakeDirectory(fresh.clone()), Step::SetMode { path: fresh.clone(), mode: 0o755 }];
        let swap = [
            Step::Symlink { target: name.into(), link: link.clone() },
            Step::Rename { from: link, to: tls.join(DATA) },
        ];
        let files = files.iter().flat_map(move |(name, bytes)| {
            let path = fresh.join(name);
            [Step::Write { path: path.clone(), bytes: bytes.clone() }, Step::SetMode { path, mode: 0o644 }]
        });
        made.into_iter().chain(files).chain(swap)
    }

    /// Writes each file into the archive under a new name, then swaps its link.
    fn archive<'a>(&self, files: &'a FileSet) -> impl Iterator<Item = Step> + use<'a> {
        let (tls, elsewhere, version) = (self.path(), self.elsewhere(), self.version);
        files.iter().flat_map(move |(name, bytes)| {
            let archived = format!("{version}.{name}");
            let (path, link) = (elsewhere.join(&archived), elsewhere.join(format!("{name}.link")));
            [
                Step::Write { path, bytes: bytes.clone() },
                Step::Symlink { target: Path::new("../elsewhere").join(archived), link: link.clone() },
                Step::Rename { from: link, to: tls.join(name) },
            ]
        })
    }

    /// A directory with a new version, and a link to it.
    fn new_version<'a>(&self, files: &'a FileSet, link: PathBuf) -> impl Iterator<Item = Step> + use<'a> {
        let fresh = self.version_directory(self.version);
        let written: Vec<Step> = write_all(&fresh, files).collect();
        [Step::MakeDirectory(fresh.clone())].into_iter().chain(written).chain([Step::Symlink { target: fresh, link }])
    }

    fn version_directory(&self, version: u64) -> PathBuf {
        self.elsewhere().join(format!("v{version}"))
    }
}

fn write_all<'a>(directory: &Path, files: &'a FileSet) -> impl Iterator<Item = Step> + use<'a> {
    let directory = directory.to_owned();
    files.iter().map(move |(name, bytes)| Step::Write { path: directory.join(name), bytes: bytes.clone() })
}

fn rename_over(
    files: &FileSet,
    temporary: impl Fn(&String) -> PathBuf,
    visible: impl Fn(&String) -> PathBuf,
) -> Vec<Step> {
    let replace = |(name, bytes): (&String, &Vec<u8>)| {
        let from = temporary(name);
        [Step::Write { path: from.clone(), bytes: bytes.clone() }, Step::Rename { from, to: visible(name) }]
    };
    files.iter().flat_map(replace).collect()
}

/// The kubelet names it by the time of day; what matters is that it is new each time and begins with two dots.
fn timestamped(version: u64) -> String {
    format!("..2026_01_01_00_00_00.{version}")
}

const DATA: &str = "..data";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn files(step: u8) -> FileSet {
        ["a.p12", "b.p12"].iter().map(|name| ((*name).to_owned(), vec![step; 1200])).collect()
    }

    fn seen(directory: &Directory) -> FileSet {
        files(0).into_keys().map(|name| (name.clone(), fs::read(directory.file(&name)).unwrap())).collect()
    }

    #[test]
    fn every_way_replaces_every_file_again_and_again() {
        for way in Way::ALL {
            let scratch = tempfile::tempdir().unwrap();
            let mut directory = Directory::create(scratch.path(), way, &files(0)).unwrap();
            assert_eq!(seen(&directory), files(0), "{way:?}");
            for step in 1..4 {
                directory.replace(&files(step)).unwrap();
                assert_eq!(seen(&directory), files(step), "{way:?} at step {step}");
            }
        }
    }

    #[test]
    fn a_projected_volume_looks_as_in_kubernetes_and_changes_with_one_rename() {
        let scratch = tempfile::tempdir().unwrap();
        let mut volume = Directory::create(scratch.path(), Way::AtomicWriter, &files(0)).unwrap();
        assert_eq!(fs::read_link(volume.file("a.p12")).unwrap(), Path::new("..data/a.p12"));
        let before = fs::read_link(volume.file(DATA)).unwrap();
        let mut change = volume.plan(&files(1)).unwrap();
        while !matches!(change.next(), Some(Step::Rename { .. })) {
            change.step().unwrap();
            assert_eq!(seen(&volume), files(0));
        }
        change.step().unwrap();
        assert_eq!(seen(&volume), files(1));
        change.run().unwrap();
        assert!(!volume.path().join(before).exists(), "the old directory is removed");
        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 4, "two links, ..data and its target");
    }

    #[test]
    fn unchanged_times_and_sizes_are_what_they_say() {
        let scratch = tempfile::tempdir().unwrap();
        let mut directory = Directory::create(scratch.path(), Way::InPlaceUnchangedTimes, &files(0)).unwrap();
        let stamp = |directory: &Directory| {
            let meta = fs::metadata(directory.file("a.p12")).unwrap();
            (meta.len(), meta.modified().unwrap())
        };
        let before = stamp(&directory);
        directory.replace(&files(1)).unwrap();
        assert_eq!(stamp(&directory), before);
        let longer = FileSet::from([("a.p12".to_owned(), vec![2; 1201])]);
        assert!(directory.replace(&longer).is_err());
    }
}
