//! Directories of certificates as they lie about on real machines.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use crate::store::testing::{Pair, authority};
use crate::{Password, StoreOptions};
use std::fs;
use std::os::unix::fs::symlink;

/// A directory `certs` of certificates, as truststore.
struct Directory {
    root: tempfile::TempDir,
    options: BundleOptions,
}

impl Directory {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("certs")).unwrap();
        let mut options = BundleOptions::new("internal");
        options.truststore = Some(StoreOptions::new(root.path().join("certs"), Password::None));
        Self { root, options }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("certs").join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn link(&self, target: &str, name: &str) {
        symlink(target, self.path(name)).unwrap();
    }

    fn read(&self) -> Result<(Files, Digests), MaterialError> {
        read_consistently(&self.options)
    }

    fn digests(&self) -> Digests {
        self.read().unwrap().1
    }

    /// Names of the files that are read.
    fn names(&self) -> Vec<String> {
        let (files, _) = self.read().unwrap();
        let listed = &files.directories[&self.root.path().join("certs")];
        listed.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }
}

fn pem(name: &str) -> String {
    Pair::self_signed(authority(name)).certificate_pem()
}

#[test]
fn hashed_links_count_and_hidden_names_directories_pipes_and_links_to_nowhere_do_not() {
    let directory = Directory::new();
    directory.write("ca.pem", pem("one"));
    directory.link("ca.pem", "0a1b2c3d.0");
    directory.link("gone.pem", "4e5f6071.0");
    directory.write(".hidden.pem", pem("hidden"));
    fs::create_dir(directory.path("sub")).unwrap();
    fs::write(directory.path("sub/ca.pem"), pem("below")).unwrap();
    directory.link("sub", "sub-link");
    nix::unistd::mkfifo(&directory.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(directory.names(), ["0a1b2c3d.0", "ca.pem"]);
}

#[test]
fn a_kubernetes_volume_is_read_through_its_links() {
    let directory = Directory::new();
    for version in ["..1", "..2"] {
        fs::create_dir(directory.path(version)).unwrap();
        fs::write(directory.path(version).join("ca.crt"), pem(version)).unwrap();
    }
    directory.link("..1", "..data");
    directory.link("..data/ca.crt", "ca.crt");
    assert_eq!(directory.names(), ["ca.crt"]);
    let before = directory.digests();
    directory.link("..2", "..data_tmp");
    fs::rename(directory.path("..data_tmp"), directory.path("..data")).unwrap();
    assert_ne!(directory.digests(), before);
}

#[test]
fn certificates_that_come_go_or_change_are_changes_and_nothing_else_is() {
    let directory = Directory::new();
    let (one, two) = (pem("one"), pem("two"));
    directory.write("one.pem", &one);
    let before = directory.digests();
    directory.write("README", "hello");
    directory.write("key.pem", Pair::self_signed(authority("x")).key_pem());
    directory.write("one.pem", &one);
    assert_eq!(directory.digests(), before, "unrelated files, and the same bytes again");
    directory.write("two.pem", &two);
    let both = directory.digests();
    assert_ne!(both, before);
    directory.write("two.pem", two.replace('\n', "\r\n"));
    assert_ne!(directory.digests(), both);
    fs::remove_file(directory.path("two.pem")).unwrap();
    assert_eq!(directory.digests(), before);
    fs::remove_file(directory.path("one.pem")).unwrap();
    let empty = directory.digests();
    assert_ne!(empty, before, "an empty directory is told by what reads it as trust");
    fs::remove_dir_all(directory.path("")).unwrap();
    fs::write(directory.root.path().join("certs"), "").unwrap();
    assert_ne!(directory.digests(), empty, "a file in its place");
}

#[test]
fn a_directory_with_too_many_files_or_bytes_is_refused() {
    let directory = Directory::new();
    for number in 0..1024 {
        directory.write(&number.to_string(), "");
        directory.write(&format!(".{number}"), "");
    }
    assert_eq!(directory.names().len(), 1024);
    directory.write("1024", "");
    assert!(directory.read().unwrap_err().to_string().contains("more than 1024 files"));

    let directory = Directory::new();
    let half = vec![b'x'; 8 * 1024 * 1024];
    directory.write("one", &half);
    directory.write("two", &half);
    assert!(directory.read().is_ok());
    directory.write("three", "x");
    assert!(directory.read().unwrap_err().to_string().contains("larger than 16777216 bytes"));
}

#[test]
fn a_keystore_is_no_directory() {
    let directory = Directory::new();
    let mut options = directory.options.clone();
    options.keystore = options.truststore.take();
    let error = read_consistently(&options).unwrap_err().to_string();
    assert!(error.contains("certs") && error.to_lowercase().contains("is a directory"), "{error}");
    // The same path for both is read as truststore, and refused as keystore.
    options.truststore.clone_from(&options.keystore);
    directory.write("ca.pem", pem("one"));
    let (files, _) = read_consistently(&options).unwrap();
    let error = crate::Generation::build(&options, &files, 1, None).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("is a directory"), "{error}");
}

#[test]
fn a_pipe_in_a_files_place_is_refused_and_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("keystore.p12");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut options = BundleOptions::new("internal");
    options.keystore = Some(StoreOptions::new(&path, Password::None));
    let error = read_consistently(&options).unwrap_err().to_string();
    assert!(error.contains("keystore.p12") && error.contains("not a regular file"), "{error}");
}

#[test]
fn digests_are_not_printed_for_a_password_could_be_guessed_by_its_own() {
    let directory = Directory::new();
    directory.write("ca.pem", pem("one"));
    let printed = format!("{:?}", directory.digests());
    let [byte, ..] = digest(&fs::read(directory.path("ca.pem")).unwrap());
    assert!(printed.contains("ca.pem") && !printed.contains(&format!("[{byte}, ")), "{printed}");
}
