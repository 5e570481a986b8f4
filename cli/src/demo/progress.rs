//! The progress bar; where there is no terminal, a line now and then.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::rotation::Rotations;
use crate::commands::output::note;
use crate::commands::table::count;

#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    rows: u64,
    begun: Instant,
    seconds: u64,
    last_line: Option<Instant>,
}

impl Progress {
    pub(super) fn new(rows: u64, seconds: u64) -> Self {
        let bar = ProgressBar::new(rows);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Self { bar, rows, begun: Instant::now(), seconds, last_line: None }
    }

    /// `rotations`: unless somebody else rotates.
    pub(super) fn show(&mut self, rows: u64, rotations: Option<Rotations>) {
        let left = self.seconds.saturating_sub(self.begun.elapsed().as_secs());
        let rotations = rotations.map_or_else(String::new, |done| format!("{} rotations, ", done.total()));
        self.bar.set_position(rows);
        self.bar.set_message(format!("{rotations}{left} s left"));
        if self.bar.is_hidden() && self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            note(format_args!("{} of {} rows, {rotations}{left} s left", count(rows), count(self.rows)));
        }
    }

    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

const TEMPLATE: &str = "{bar:40} {human_pos} of {human_len} rows, {msg}";
/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
