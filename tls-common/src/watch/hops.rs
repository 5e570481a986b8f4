//! Which directories must be watched so that no change of a path goes unseen.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Symlink chains longer than this are a loop (Linux gives up at 40).
const MAX_HOPS: usize = 40;

/// A directory of certificates holds at most this many links that are followed; the rest is left to the poll.
const MAX_LINKS: usize = 1024;

/// How often hops are resolved again while they change under our hands. Events bring us back if that is not enough.
const MAX_ROUNDS: usize = 8;

/// Watches the directories that `resolve` names and returns those that `watch` took.
///
/// They are resolved again afterwards: a hop that was swapped, or a directory that was made anew, in the instant before
/// its watch began has told nobody. It shows as a difference, and is followed.
pub(super) fn arm(
    mut resolve: impl FnMut() -> BTreeSet<PathBuf>,
    mut watch: impl FnMut(&Path) -> bool,
) -> BTreeSet<PathBuf> {
    let mut wanted = resolve();
    let mut watched = BTreeSet::new();
    for _ in 0..MAX_ROUNDS {
        watched = wanted.iter().filter(|directory| watch(directory)).cloned().collect();
        let now = resolve();
        if now == wanted {
            break;
        }
        wanted = now;
    }
    watched
}

/// The directories that hold `path`, each symlink on the way to it, and the file it finally names. If that is itself a
/// directory (of CA certificates): it too, and whatever its links lead through.
///
/// A part that does not exist contributes the deepest directory above it that does, so that its (re)creation is seen.
pub(super) fn watched_directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    walk(&absolute, &mut directories, MAX_HOPS);
    directories
}

fn walk(path: &Path, directories: &mut BTreeSet<PathBuf>, hops_left: usize) {
    if hops_left == 0 {
        return;
    }
    let mut here = PathBuf::new();
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        if component == Component::ParentDir {
            here.pop();
            continue;
        }
        let parent = here.clone();
        here.push(component);
        if component == Component::RootDir {
            continue;
        }
        match std::fs::symlink_metadata(&here) {
            Ok(meta) if meta.file_type().is_symlink() => {
                directories.insert(parent.clone());
                let Ok(target) = std::fs::read_link(&here) else { return };
                let mut resolved = parent.join(target);
                resolved.extend(components);
                return walk(&resolved, directories, hops_left - 1);
            }
            Ok(meta) if components.peek().is_none() => {
                directories.insert(parent);
                if meta.is_dir() {
                    links(&here).for_each(|link| walk(&link, directories, hops_left - 1));
                    directories.insert(here);
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => {
                directories.insert(parent);
                return;
            }
        }
    }
}

/// The links to files in a directory whose names are not hidden: those that are read as certificates.
fn links(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()))
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .filter(|path| !path.is_dir())
        .take(MAX_LINKS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_kubernetes_mount_is_watched_at_the_link_and_at_its_target() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("..2024")).unwrap();
        std::fs::write(root.join("..2024/tls.crt"), b"x").unwrap();
        symlink("..2024", root.join("..data")).unwrap();
        symlink("..data/tls.crt", root.join("tls.crt")).unwrap();
        let seen = watched_directories(&root.join("tls.crt"));
        assert_eq!(seen, BTreeSet::from([root.clone(), root.join("..2024")]));
    }

    #[test]
    fn a_symlinked_directory_is_watched_where_the_link_lies() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("v1")).unwrap();
        std::fs::write(root.join("v1/key"), b"x").unwrap();
        symlink(root.join("v1"), root.join("current")).unwrap();
        let seen = watched_directories(&root.join("current/key"));
        assert_eq!(seen, BTreeSet::from([root.clone(), root.join("v1")]));
    }

    #[test]
    fn a_directory_of_certificates_is_watched_itself_and_where_its_links_lead() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for directory in ["certs", "certs/sub", "shared", "certs/..2024"] {
            std::fs::create_dir(root.join(directory)).unwrap();
        }
        std::fs::write(root.join("certs/plain.pem"), b"x").unwrap();
        std::fs::write(root.join("shared/ca.pem"), b"x").unwrap();
        std::fs::write(root.join("certs/..2024/ca.crt"), b"x").unwrap();
        symlink("../shared/ca.pem", root.join("certs/0a1b2c3d.0")).unwrap();
        symlink("..2024", root.join("certs/..data")).unwrap();
        symlink("..data/ca.crt", root.join("certs/ca.crt")).unwrap();
        let seen = watched_directories(&root.join("certs"));
        let expected = ["", "certs", "certs/..2024", "shared"].map(|directory| root.join(directory));
        assert_eq!(seen, expected.iter().map(|path| path.components().collect()).collect());
    }

    #[test]
    fn a_missing_directory_is_watched_from_above() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let seen = watched_directories(&root.join("gone/key"));
        assert_eq!(seen, BTreeSet::from([root]));
    }

    fn set(names: &[&str]) -> BTreeSet<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn what_is_swapped_before_its_watch_began_is_followed_at_once() {
        // The link in /links moves from /v1 to /v2 just before /links is watched.
        let mut resolved = [set(&["/links", "/v1"]), set(&["/links", "/v2"]), set(&["/links", "/v2"])].into_iter();
        let watched = arm(|| resolved.next().unwrap(), |_| true);
        assert_eq!(watched, set(&["/links", "/v2"]));
        assert_eq!(resolved.next(), None, "nothing is resolved once it holds still");
    }

    #[test]
    fn a_directory_that_vanishes_before_its_watch_began_is_awaited_from_above() {
        let mut resolved = [set(&["/top/tls"]), set(&["/top"]), set(&["/top"])].into_iter();
        let watched = arm(|| resolved.next().unwrap(), |directory| directory != Path::new("/top/tls"));
        assert_eq!(watched, set(&["/top"]));
    }

    #[test]
    fn hops_that_never_hold_still_end_too() {
        let mut round = 0;
        let resolve = || {
            round += 1;
            set(&[&format!("/v{round}")])
        };
        assert_eq!(arm(resolve, |_| true).len(), 1);
    }

    #[test]
    fn a_symlink_loop_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert!(!watched_directories(&root.path().join("a")).is_empty());
    }
}
