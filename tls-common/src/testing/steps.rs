//! Single file operations, and lists of them that a caller runs at its own pace.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::SystemTime;

/// One file operation, as one or a few system calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes a directory that only its owner may enter.
    MakeDirectory(PathBuf),
    /// Creates the file (mode 0600), or truncates it, and writes it in one go.
    Write {
        /// Which file.
        path: PathBuf,
        /// All of its content.
        bytes: Vec<u8>,
    },
    /// Cuts an existing file to nothing.
    Truncate(PathBuf),
    /// Writes at the end of an existing file.
    Append {
        /// Which file.
        path: PathBuf,
        /// What comes at its end.
        bytes: Vec<u8>,
    },
    /// chmod(2).
    SetMode {
        /// Which file or directory.
        path: PathBuf,
        /// Permission bits, e.g. `0o644`.
        mode: u32,
    },
    /// Sets the modification time, as `cp -p`, `rsync -t` and `touch -d` do.
    SetModified {
        /// Which file.
        path: PathBuf,
        /// When it claims to have been modified.
        time: SystemTime,
    },
    /// Makes a symbolic link.
    Symlink {
        /// What the link says, relative to where it lies.
        target: PathBuf,
        /// Where it lies; must not exist.
        link: PathBuf,
    },
    /// Gives a file a second name.
    HardLink {
        /// The name it has.
        original: PathBuf,
        /// The name it gets; must not exist.
        link: PathBuf,
    },
    /// rename(2): replaces what is at `to`, atomically.
    Rename {
        /// Old name.
        from: PathBuf,
        /// New name.
        to: PathBuf,
    },
    /// Removes a directory and everything in it.
    RemoveDirectory(PathBuf),
}

impl Step {
    /// Does it.
    ///
    /// # Errors
    /// What the system says.
    pub fn run(&self) -> io::Result<()> {
        match self {
            Self::MakeDirectory(path) => DirBuilder::new().mode(0o700).create(path),
            Self::Write { path, bytes } => {
                let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
                file.and_then(|mut file| file.write_all(bytes))
            }
            Self::Truncate(path) => OpenOptions::new().write(true).truncate(true).open(path).map(drop),
            Self::Append { path, bytes } => {
                OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(bytes))
            }
            Self::SetMode { path, mode } => fs::set_permissions(path, Permissions::from_mode(*mode)),
            Self::SetModified { path, time } => File::open(path)?.set_times(FileTimes::new().set_modified(*time)),
            Self::Symlink { target, link } => symlink(target, link),
            Self::HardLink { original, link } => fs::hard_link(original, link),
            Self::Rename { from, to } => fs::rename(from, to),
            Self::RemoveDirectory(path) => fs::remove_dir_all(path),
        }
    }
}

/// A list of steps. Dropped halfway, it leaves things as a tool does that was killed.
#[derive(Clone, Debug)]
#[must_use = "nothing happens until it is run"]
pub struct Change {
    steps: VecDeque<Step>,
}

impl Change {
    /// What comes next; `None` at the end.
    pub fn next(&self) -> Option<&Step> {
        self.steps.front()
    }

    /// Does the next step, if there is one, and says whether more are left.
    ///
    /// # Errors
    /// The step's own. It counts as done.
    pub fn step(&mut self) -> io::Result<bool> {
        if let Some(step) = self.steps.pop_front() {
            step.run()?;
        }
        Ok(!self.steps.is_empty())
    }

    /// Stops in front of the first step that is `wanted`, or at the end.
    ///
    /// # Errors
    /// The first step's that fails.
    pub fn run_until(&mut self, wanted: impl Fn(&Step) -> bool) -> io::Result<()> {
        while self.next().is_some_and(|next| !wanted(next)) {
            self.step()?;
        }
        Ok(())
    }

    /// Does all that is left.
    ///
    /// # Errors
    /// The first step's that fails.
    pub fn run(&mut self) -> io::Result<()> {
        self.run_until(|_| false)
    }
}

impl FromIterator<Step> for Change {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self { steps: steps.into_iter().collect() }
    }
}
