//! Today's keytool and openssl still write what the committed fixtures stand for.

use std::{collections::BTreeMap, fs, process::Command};

use super::*;

#[path = "../../../tests/support/tools.rs"]
mod tools;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// What comes of each store in a directory: as identity and as trust, with and without passwords.
fn outcomes(directory: &Path) -> BTreeMap<String, Vec<String>> {
    let secret = |text: &str| Some(Secret::new(text.into()));
    let passwords = [
        ResolvedPasswords::default(),
        ResolvedPasswords { store: secret(PASSWORD), key: None },
        ResolvedPasswords { store: secret(PASSWORD), key: secret("key_password") },
        ResolvedPasswords { store: secret("pässwörd"), key: None },
    ];
    let mut outcomes = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "make.sh" || entry.path().is_dir() {
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap();
        let of = |passwords| {
            let contents = decode(&bytes, &options(), passwords, StorePart::Keystore);
            let keys = contents.map(|contents| contents.keys.len()).map_err(|fault| format!("{fault:?}"));
            let chain = parse_identity(&bytes, &options(), passwords).map(|identity| subjects(&identity.chain));
            let trusted = parse_trust(&bytes, &options(), passwords).map(|trusted| subjects(&trusted).len());
            format!("keys {keys:?}, chain {:?}, trusted {:?}", kind(chain), kind(trusted))
        };
        outcomes.insert(name, passwords.iter().map(of).collect());
    }
    outcomes
}

/// Errors without the path.
fn kind<T>(result: Result<T, MaterialError>) -> Result<T, String> {
    result.map_err(|error| match error {
        MaterialError::Store { fault, .. } => format!("{fault:?}"),
        other => other.to_string(),
    })
}

#[test]
fn stores_made_anew_read_as_the_committed_ones_do() {
    if !tools::tool("keytool", "-help") || !tools::tool("openssl", "version") {
        return;
    }
    let anew = tempfile::tempdir().unwrap();
    let mut script = Command::new("sh");
    script.arg(format!("{FIXTURES}/make.sh")).arg(anew.path());
    script.env("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"); // thirty short lives of a JVM
    let made = script.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (committed, anew) = (outcomes(Path::new(FIXTURES)), outcomes(anew.path()));
    assert!(committed.len() > 30, "{:?}", committed.keys());
    for (name, expected) in &committed {
        assert_eq!(anew.get(name), Some(expected), "{name}");
    }
    assert_eq!(committed.len(), anew.len(), "{:?}", anew.keys());
}
