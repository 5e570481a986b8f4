//! One service as a child process: started from its own binary, looked at from outside, never left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Port, eventually};

pub use tidemill::cluster::Role;

/// Lines of a log that a failed test prints.
const LAST_LINES: usize = 60;

/// A service that has announced itself. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    role: Role,
    name: String,
    child: Child,
    addresses: BTreeMap<String, SocketAddr>,
    log: PathBuf,
}

impl Process {
    /// Starts the binary of `role` with the configuration in `<scratch>/conf` and waits until it is ready.
    ///
    /// # Panics
    /// It ends before.
    pub async fn start(role: Role, name: &str, scratch: &Path, overrides: &[(String, String)]) -> Self {
        let ready_file = scratch.join(format!("{name}.ready"));
        let log = scratch.join(format!("{name}.log"));
        let output = File::create(&log).unwrap();
        let child = Command::new(binary(role.name()))
            .arg("--config-dir")
            .arg(scratch.join("conf"))
            .arg(format!("-Dprocess.ready-file={}", ready_file.display()))
            .args(overrides.iter().map(|(key, value)| format!("-D{key}={value}")))
            .env_remove("TIDEMILL_PROPERTIES")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        // From here on dropping it kills the child.
        let mut process = Self { role, name: name.to_owned(), child, addresses: BTreeMap::new(), log };
        process.addresses = eventually(&format!("{name} is ready"), async || {
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("{name} did not start: {status}");
            }
            let ready = fs::read(&ready_file).map_err(|error| error.to_string())?;
            let mut ready: serde_json::Value = serde_json::from_slice(&ready).unwrap();
            Ok(serde_json::from_value(ready["addresses"].take()).unwrap())
        })
        .await;
        process
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The role's name; TaskManagers have a number behind it, and it is their resource id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self, port: Port) -> SocketAddr {
        self.addresses[port.name()]
    }

    /// Every port it serves.
    pub fn ports(&self) -> impl Iterator<Item = (Port, SocketAddr)> + '_ {
        Port::of(self.role).iter().map(|port| (*port, self.address(*port)))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, async || self.child.try_wait().unwrap().ok_or("it runs".to_owned())).await
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until its log has this text.
    pub async fn logs(&self, text: &str) {
        eventually(&format!("{} logs {text:?}", self.name), async || {
            let log = fs::read_to_string(&self.log).unwrap();
            if log.contains(text) { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
    }

    /// Its audit records so far; they are read from a log in JSON (`log.format`).
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let log = fs::read_to_string(&self.log).unwrap();
        // The last line may be in the making.
        let records = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        records.filter(|record| record["target"] == "audit").collect()
    }

    /// Its inotify instances.
    pub fn inotify_instances(&self) -> usize {
        self.descriptors().iter().filter(|target| target.contains("inotify")).count()
    }

    /// The addresses of its listening TCP sockets, as the kernel has them.
    pub fn listening(&self) -> BTreeSet<SocketAddr> {
        let own: BTreeSet<String> = self.descriptors().into_iter().collect();
        let pid = self.pid();
        let tables = [format!("/proc/{pid}/net/tcp"), format!("/proc/{pid}/net/tcp6")];
        let lines = tables.iter().filter_map(|table| fs::read_to_string(table).ok());
        let lines: Vec<String> = lines.flat_map(|table| table.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        lines.iter().filter_map(|line| listening_socket(line, &own)).collect()
    }

    /// What its file descriptors are.
    fn descriptors(&self) -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        // One that was closed between the listing and the look is none.
        entries.filter_map(|entry| Some(fs::read_link(entry.ok()?.path()).ok()?.display().to_string())).collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            eprintln!("---- log of {}, last lines ----\n{}", self.name, last.join("\n"));
        }
    }
}

/// The binary `name` of this workspace, in the profile of the running test.
///
/// # Panics
/// It was not built.
pub fn binary(name: &str) -> PathBuf {
    // target/debug/deps/scenarios-0123456789abcdef
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join(name);
    assert!(path.is_file(), "{} is missing: run `cargo test --workspace`, which builds it", path.display());
    path
}

/// A line of `/proc/net/tcp`, if it is a listening socket of ours: `sl local remote state queues timer retransmits uid timeout inode`.
fn listening_socket(line: &str, own: &BTreeSet<String>) -> Option<SocketAddr> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    if *state != LISTEN || !own.contains(&format!("socket:[{inode}]")) {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    Some(SocketAddr::new(kernel_address(ip), u16::from_str_radix(port, 16).ok()?))
}

/// The kernel prints an address as 32-bit words in the machine's own byte order.
fn kernel_address(hex: &str) -> IpAddr {
    let words = hex.as_bytes().as_chunks::<8>().0;
    let words = words.iter().map(|word| u32::from_str_radix(str::from_utf8(word).unwrap(), 16).unwrap());
    let bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
    match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).unwrap()).into(),
    }
}
