//! Writes `config.yaml`: one dotted key per line.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::ClusterError;

/// Writes `<config_dir>/config.yaml` anew, readable by its owner only: settings may be passwords.
pub(super) fn write(config_dir: &Path, settings: &BTreeMap<String, String>) -> Result<(), ClusterError> {
    let path = config_dir.join("config.yaml");
    let written = fs::create_dir_all(config_dir).and_then(|()| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(render(settings).as_bytes())
    });
    written.map_err(|cause| ClusterError::Io { path, cause })
}

fn render(settings: &BTreeMap<String, String>) -> String {
    let mut text = String::from("# Written anew at each start of this cluster.\n");
    for (key, value) in settings {
        text.push_str(&format!("{key}: {}\n", quoted(value)));
    }
    text
}

/// Plain where YAML cannot misread it, else in single quotes, in which only the quote itself is special.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let safe_start = value.starts_with(|c: char| c.is_ascii_alphanumeric() || "_./".contains(c));
    if safe_start && value.chars().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', "''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_yaml_would_misread_are_quoted() {
        assert_eq!(quoted("/tmp/a-b/internal.keystore.p12"), "/tmp/a-b/internal.keystore.p12");
        assert_eq!(quoted("10 s"), "'10 s'");
        assert_eq!(quoted("it's: #1"), "'it''s: #1'");
        assert_eq!(quoted("- x"), "'- x'");
        assert_eq!(quoted(""), "''");
    }
}
