//! Words for people and programs, which may have gone: `tidemill list | head -1` is no failure.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anyhow::Context;

/// Writes to standard output as it is. A closed pipe means that nobody wants to know, and is fine.
pub(crate) fn print(text: impl Display) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(()),
    }
}

/// Writes a line to standard output; see [`print`].
pub(crate) fn say(line: impl Display) -> anyhow::Result<()> {
    print(format_args!("{line}\n"))
}

/// Writes a line to standard error; if that does not work, there is nobody to tell.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
