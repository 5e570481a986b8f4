//! `openssl s_client`: a TLS client by other people, with sessions kept in files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tidemill::rotation::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::port::contains;
use crate::{Internal, PASSWORD, Port, eventually, within};

/// Somebody who uses `openssl s_client`.
#[derive(Debug)]
pub struct OpenSsl {
    keystore: Option<PathBuf>,
    version: &'static str,
}

/// What came of a connection.
#[derive(Debug)]
pub struct Spoken {
    /// The server said what it says only to those it accepts.
    pub answered: bool,
    /// The TLS session was resumed.
    pub resumed: bool,
    /// What the tool printed, for messages.
    pub output: String,
}

impl OpenSsl {
    /// One that presents `identity` (its keystore is written to `scratch`) or nothing, and speaks `version`: `-tls1_2` or
    /// `-tls1_3`.
    pub fn new(scratch: &Path, identity: Option<&Identity>, version: &'static str) -> Self {
        let keystore = identity.map(|identity| {
            let path = scratch.join(format!("{}.p12", identity.fingerprint()));
            std::fs::write(&path, Internal::keystore(identity)).unwrap();
            path
        });
        Self { keystore, version }
    }

    /// Connects and listens until the server has answered or the connection has ended.
    pub async fn converse(&self, port: Port, address: SocketAddr) -> Spoken {
        within("openssl", self.run(port, address, &[], async |_| {})).await
    }

    /// The same, and keeps the session in `file`.
    pub async fn converse_and_keep(&self, port: Port, address: SocketAddr, file: &Path) -> Spoken {
        let option = ["-sess_out".to_owned(), file.display().to_string()];
        // With TLS 1.3 the session comes some time after the handshake.
        let kept = async |spoken: &Spoken| {
            if spoken.answered {
                eventually("the session is kept", async || {
                    let length = std::fs::metadata(file).map_or(0, |file| file.len());
                    if length > 0 { Ok(()) } else { Err("no session".to_owned()) }
                })
                .await;
            }
        };
        within("openssl", self.run(port, address, &option, kept)).await
    }

    /// The same with a session kept before.
    pub async fn resume(&self, port: Port, address: SocketAddr, file: &Path) -> Spoken {
        let option = ["-sess_in".to_owned(), file.display().to_string()];
        within("openssl", self.run(port, address, &option, async |_| {})).await
    }

    async fn run(
        &self,
        port: Port,
        address: SocketAddr,
        options: &[String],
        before_it_ends: impl AsyncFnOnce(&Spoken),
    ) -> Spoken {
        let mut command = Command::new("openssl");
        // With -ign_eof the end of our input is not the end of the connection, and no letter in it is a command.
        command.args(["s_client", "-ign_eof", self.version, "-alpn", port.alpn(), "-connect", &address.to_string()]);
        if let Some(keystore) = &self.keystore {
            command.arg("-cert").arg(keystore).arg("-key").arg(keystore).args(["-pass", &format!("pass:{PASSWORD}")]);
        }
        command.args(options);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        // Fails if the server has refused us already.
        let _ = stdin.write_all(port.opening()).await;
        let mut output = Vec::new();
        while !contains(&output, port.greeting()) && stdout.read_buf(&mut output).await.unwrap() > 0 {}
        let answered = contains(&output, port.greeting());
        let resumed = contains(&output, b"\nReused, ");
        let mut spoken = Spoken { answered, resumed, output: String::from_utf8_lossy(&output).into_owned() };
        before_it_ends(&spoken).await;
        if spoken.answered {
            child.kill().await.unwrap();
        }
        let mut complaints = Vec::new();
        stderr.read_to_end(&mut complaints).await.unwrap();
        child.wait().await.unwrap();
        spoken.output.push_str(&String::from_utf8_lossy(&complaints));
        spoken
    }
}
