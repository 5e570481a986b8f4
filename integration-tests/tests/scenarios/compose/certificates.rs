//! Identities that change under a running cluster.

use std::fs;

use integration_tests::eventually;

use super::project::Project;

/// Replacements that the demo's job lives through.
const REPLACEMENTS: usize = 30;
/// One each second, and the first is only an announcement.
const SECONDS: &str = "40";

#[tokio::test]
async fn a_job_is_exact_and_no_handshake_fails_while_both_identities_are_replaced_30_times() {
    let Some(mut project) = Project::up("rotate").await else { return };
    project.set("ROTATE_EVERY", "1s");
    project.set("DEMO_SECONDS", SECONDS);
    project.compose(&["--profile", "rotate", "up", "-d", "rotate"]);
    eventually("the first replacement", async || match replacements(&project) {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    })
    .await;
    let before = replacements(&project);
    let report = project.compose(&["--profile", "demo", "run", "--rm", "-T", "demo"]);
    let during = replacements(&project) - before;
    assert!(report.contains("exact      yes") && report.contains("passed: nothing lost"), "{report}");
    assert!(during >= REPLACEMENTS, "{during} replacements\n{report}");
    // Everybody has followed, to the gateway's last connection.
    let overview = project.get("/v1/tls");
    for endpoint in overview["processes"].as_array().unwrap().iter().flat_map(|p| p["endpoints"].as_array().unwrap()) {
        assert!(endpoint["bundle"]["generation"].as_u64() >= Some(REPLACEMENTS as u64), "{endpoint}");
        assert_eq!(endpoint["failed_handshakes"], 0, "{endpoint}");
    }
}

#[tokio::test]
async fn certs_refuses_to_mend_or_overwrite_identities_that_are_not_complete() {
    let Some(project) = Project::new("incomplete").await else { return };
    project.compose(&["up", "certs"]);
    let made = project.identities();
    assert_eq!(made.len(), 6, "{:?}", made.keys());
    // Another password than the one that the stores were made with.
    let password = project.secrets().join("internal-password");
    let right = fs::read(&password).unwrap();
    fs::write(&password, "another\n").unwrap();
    refuses(&project, &["internal.keystore.p12", "password", "left alone"]);
    fs::write(&password, right).unwrap();
    assert!(project.compose(&["run", "--rm", "-T", "certs"]).contains("kept what is in"));
    assert_eq!(project.identities(), made);
    // Half of an identity.
    project.spoils_identity("rest.keystore.p12");
    let left = project.identities();
    refuses(&project, &["rest.keystore.p12", "restore it"]);
    assert_eq!(project.identities(), left);
}

/// `certs` fails with all of these words.
fn refuses(project: &Project, words: &[&str]) {
    let refused = project.try_compose(&["run", "--rm", "-T", "certs"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

/// How often the rotator says that it has replaced them.
fn replacements(project: &Project) -> usize {
    project.compose(&["--profile", "rotate", "logs", "--no-color", "rotate"]).matches("..data swapped").count()
}
