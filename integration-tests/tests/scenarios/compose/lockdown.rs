//! What containers may do, and what nobody may see.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::engine::{docker, image, inspect};
use super::project::{Project, SECRETS, SERVERS};

/// Of the test's own image, whose program is not optimised: 184 MB. That of a release build has 130 MB.
const IMAGE_BYTES_MOST: u64 = 200_000_000;

#[tokio::test]
async fn no_container_is_root_writes_to_its_image_has_a_capability_or_is_reached_from_another_machine() {
    let Some(project) = Project::up("lockdown").await else { return };
    let services = SERVERS.iter().chain(&["certs"]);
    for (service, container) in
        services.flat_map(|service| project.containers(service).into_iter().map(move |id| (*service, id)))
    {
        let seen = inspect(&container);
        let host = &seen["HostConfig"];
        assert_eq!(seen["Config"]["User"], "65532:65532", "{service}");
        assert_eq!(host["ReadonlyRootfs"], true, "{service}");
        assert_eq!(host["Privileged"], false, "{service}");
        assert_eq!(host["CapDrop"].to_string(), r#"["ALL"]"#, "{service}");
        assert!(host["CapAdd"].as_array().is_none_or(Vec::is_empty), "{service}");
        assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"), "{service}");
        for limit in ["Memory", "NanoCpus", "PidsLimit"] {
            assert!(host[limit].as_u64() > Some(0), "{service}: {limit}");
        }
        let restarts = if service == "certs" { "no" } else { "unless-stopped" };
        assert_eq!(host["RestartPolicy"]["Name"], restarts, "{service}");
        let networks: Vec<_> = seen["NetworkSettings"]["Networks"].as_object().unwrap().keys().cloned().collect();
        let network = |name: &str| format!("{}_{name}", project.name());
        match service {
            "certs" => assert_eq!(networks, ["none"]),
            "rest-gateway" => assert_eq!(networks, [network("cluster"), network("outside")]),
            _ => assert_eq!(networks, [network("cluster")]),
        }
        let published = published(&seen);
        assert_eq!(published.len(), usize::from(service == "rest-gateway"), "{service}: {published:?}");
        assert!(published.iter().all(|address| address == "127.0.0.1"), "{service}: {published:?}");
        // The identities are for reading.
        let mounts = seen["Mounts"].as_array().unwrap();
        let identities = mounts.iter().find(|mount| mount["Destination"] == "/opt/tidemill/conf/tls").unwrap();
        assert_eq!(identities["RW"], service == "certs", "{service}");
        let rest = mounts.iter().any(|mount| mount["Destination"] == "/run/secrets/rest-password");
        assert_eq!(rest, ["certs", "rest-gateway"].contains(&service), "{service}");
    }
    let cluster: Value =
        serde_json::from_str(&docker(&["network", "inspect", &format!("{}_cluster", project.name())])).unwrap();
    assert_eq!(cluster[0]["Internal"], true);
    let image: Value = serde_json::from_str(&docker(&["image", "inspect", &image()])).unwrap();
    let labels = &image[0]["Config"]["Labels"];
    for label in ["title", "description", "licenses", "version", "revision", "base.name"] {
        assert!(labels[format!("org.opencontainers.image.{label}")].is_string(), "{label}: {labels}");
    }
    assert!(image[0]["Size"].as_u64() < Some(IMAGE_BYTES_MOST), "{}", image[0]["Size"]);
    // Nothing in the image could run anything else.
    let jobmanager = project.container("jobmanager");
    let is_there = |path: &str| {
        let copied = Command::new("docker").args(["cp", &format!("{jobmanager}:{path}"), "-"]).output();
        copied.unwrap().status.success()
    };
    assert!(is_there("/etc/passwd"), "nothing can be found this way");
    for program in ["/bin/sh", "/bin/bash", "/bin/busybox", "/usr/bin/dpkg", "/usr/bin/apt-get"] {
        assert!(!is_there(program), "{program} is in the image");
    }
}

/// The host's addresses behind which ports of the container are.
fn published(seen: &Value) -> Vec<String> {
    let ports = seen["NetworkSettings"]["Ports"].as_object().cloned().unwrap_or_default();
    let bindings = ports.values().filter_map(Value::as_array).flatten();
    bindings.map(|binding| binding["HostIp"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn no_password_is_in_an_environment_in_an_image_in_what_the_engine_tells_or_in_a_log() {
    let Some(mut project) = Project::up("secrets").await else { return };
    project.set("ROTATE_EVERY", "1s");
    project.compose(&["--profile", "rotate", "up", "-d", "rotate"]);
    project.runs_a_job("secret").await;
    // The answers to one that does not fit, and to one that cannot be read.
    let other = project.other_secrets("wrong\n");
    project.set("TIDEMILL_SECRETS", &other);
    let wrong = project.try_compose(&["run", "--rm", "-T", "certs"]);
    let other = project.other_secrets("wrong\nand more\n");
    project.set("TIDEMILL_SECRETS", &other);
    let odd = project.try_compose(&["run", "--rm", "-T", "certs"]);
    let refusals = format!("{}{}", String::from_utf8_lossy(&wrong.stderr), String::from_utf8_lossy(&odd.stderr));
    assert!(!wrong.status.success() && !odd.status.success(), "{refusals}");
    assert!(refusals.contains("is its password the right one?") && refusals.contains("one line"), "{refusals}");
    assert!(!refusals.contains("wrong"), "{refusals}");

    let mut seen =
        vec![("the log", project.compose(&["--profile", "rotate", "logs", "--no-color"])), ("a refusal", refusals)];
    for service in SERVERS.iter().chain(&["certs", "rotate"]) {
        for container in project.containers(service) {
            let inspected = inspect(&container);
            let image = inspected["Image"].as_str().unwrap();
            seen.push(("the image's history", docker(&["history", "--no-trunc", image])));
            seen.push(("the image", docker(&["inspect", image])));
            // The environment is in it as well.
            seen.push(("the container", inspected.to_string()));
        }
    }
    assert!(seen[0].1.contains("replacement 1"), "{}", seen[0].1);
    let secrets = project.secrets();
    for name in SECRETS {
        let password = fs::read_to_string(secrets.join(name)).unwrap();
        for (place, text) in &seen {
            assert!(!text.contains(password.trim()), "{name} is in {place}");
        }
    }
}
