//! The engine: its commands, and the image that the containers are made of.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use integration_tests::binary;
use serde_json::Value;

/// Tag of the image that is made of the tests' own binary.
const TEST_IMAGE: &str = "tidemill:scenarios";

/// Runs a docker command to its end and returns what it printed.
pub(super) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output().unwrap();
    succeeded(&format!("docker {arguments:?}"), output)
}

/// What the engine knows of a container.
pub(super) fn inspect(container: &str) -> Value {
    serde_json::from_str::<Value>(&docker(&["inspect", container])).unwrap()[0].take()
}

pub(super) fn succeeded(what: &str, output: Output) -> String {
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{said}\n{complained}", output.status);
    said.into_owned()
}

/// Compose v2.
pub(super) fn has_plugin() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let version = Command::new("docker").args(["compose", "version"]).output();
        version.is_ok_and(|output| output.status.success())
    })
}

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The image to test.
pub(super) fn image() -> String {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| std::env::var("TIDEMILL_IMAGE").unwrap_or_else(|_| made())).clone()
}

/// An image of the binary beside this test, made by the project's Dockerfile in a directory with just what that reads.
fn made() -> String {
    let context = tempfile::tempdir().unwrap();
    let outside = context.path().join("docker/outside");
    fs::create_dir_all(&outside).unwrap();
    fs::copy(binary("tidemill"), outside.join("tidemill")).unwrap();
    for name in ["Dockerfile", "Cargo.toml", "Cargo.lock", "docker/config.yaml"] {
        fs::create_dir_all(context.path().join(name).parent().unwrap()).unwrap();
        fs::copy(repository().join(name), context.path().join(name)).unwrap();
    }
    let directory = context.path().to_str().unwrap();
    docker(&["build", "--quiet", "--build-arg", "PROGRAMS=outside", "--tag", TEST_IMAGE, directory]);
    TEST_IMAGE.to_owned()
}
