//! A transfer between two processes of this executable, watched from outside.

use std::env;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::peer::{Assignment, Line};
use super::sample::Series;

/// Both ends' readings.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) sender: Series,
    pub(super) receiver: Series,
}

/// Lets the transfer go on for `span` after the first bytes have arrived. `assignment` is the receiving end's.
pub(super) async fn run(assignment: Assignment, span: Duration) -> anyhow::Result<Watched> {
    let mut receiver = End::start(&assignment).await?;
    let Some(Line::Port(port)) = receiver.next().await? else { bail!("the receiving end does not say where it is") };
    let mut sender = End::start(&Assignment { port: Some(port), ..assignment }).await?;
    let mut watched = Watched::default();
    let begun = Notify::new();
    let watch = async {
        loop {
            let (series, line) = tokio::select! {
                line = receiver.next() => (&mut watched.receiver, line?),
                line = sender.next() => (&mut watched.sender, line?),
            };
            match line {
                Some(Line::Sample(sample)) => {
                    series.push(sample);
                    if watched.receiver.last().is_some_and(|last| last.bytes > 0) {
                        begun.notify_one();
                    }
                }
                Some(Line::Port(_)) => {}
                None => bail!("one end of the transfer has ended too early; see above"),
            }
        }
    };
    let over = async {
        timeout(START_TIMEOUT, begun.notified()).await.context("nothing arrives at the receiving end")?;
        sleep(span).await;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = watch => ended?,
        ended = over => ended?,
    }
    // Together: whichever is left alone would complain.
    tokio::try_join!(sender.stop(), receiver.stop())?;
    Ok(watched)
}

/// One process. Dropping it kills it.
struct End {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl End {
    async fn start(assignment: &Assignment) -> anyhow::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["bench", "peer"])
            .env_remove(config::PROPERTIES_VARIABLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start one end of the transfer")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (mut input, output) = input.zip(output).context("no pipes to one end of the transfer")?;
        let mut line = serde_json::to_vec(assignment)?;
        line.push(b'\n');
        input.write_all(&line).await?;
        input.flush().await?;
        Ok(Self { child, input, lines: BufReader::new(output).lines() })
    }

    /// Cancel safe.
    async fn next(&mut self) -> anyhow::Result<Option<Line>> {
        let line = self.lines.next_line().await?;
        line.map(|line| serde_json::from_str(&line).with_context(|| format!("unexpected words: {line}"))).transpose()
    }

    async fn stop(self) -> anyhow::Result<()> {
        let Self { mut child, input, lines: _unread } = self;
        drop(input);
        match timeout(STOP_TIMEOUT, child.wait()).await {
            Ok(status) => status.map(drop).context("cannot wait for one end of the transfer"),
            Err(_) => child.kill().await.context("one end of the transfer cannot be stopped"),
        }
    }
}

/// From the start of the sending end to the first bytes at the other.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// From the end of its standard input to the end of a process.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
