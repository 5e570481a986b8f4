//! `tidemill bench shuffle`: what the data plane moves, what that costs, and what rotation changes about it, beside the
//! machine's own limit in the same run.
//!
//! ```text
//!  arguments ─▶ cells ─▶ turns: every cell once, as often as there are repeats ─▶ report.json, report.md, throughput.svg
//!                          ├ raw, plane: two processes (`bench peer`) that tell what they have moved
//!                          └ job: a cluster per configuration, kept for all turns; its own reports are read
//! ```
//!
//! Cells take turns so that whatever else the machine does meets all of them alike. A figure is the median over the
//! turns, with the least and the greatest; a ratio is taken within each turn.

mod arguments;
mod cell;
mod clusters;
mod incidents;
mod job;
mod markdown;
mod pair;
mod peer;
mod plane;
mod plot;
mod raw;
mod report;
mod run;
mod sample;
mod spin;
mod turns;

pub(crate) use arguments::Arguments;
pub(crate) use peer::run as peer;
pub(crate) use turns::run;
