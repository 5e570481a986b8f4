//! Metrics in Prometheus' text format (version 0.0.4), rendered from status snapshots: no global recorder, no registry.
//!
//! Every family has the label `endpoint`, those about certificates and files also `bundle`, and whatever labels the
//! caller adds to tell processes apart. Endpoints that share a bundle each report it: count bundles with
//! `max without (endpoint) (…)`. Times are Unix time.
//!
//! | name | type | unit | further labels | meaning |
//! | --- | --- | --- | --- | --- |
//! | `tls_handshakes_total` | counter | handshakes | `result`: `full`, `resumed`, `failed` | handshakes of both sides |
//! | `tls_handshake_failures_total` | counter | handshakes | `reason`: [`crate::HandshakeError::code`] | the failed ones by reason; a reason appears with its first failure |
//! | `tls_refused_connects_total` | counter | connects | | our own connects that TCP refused or reset |
//! | `tls_connections` | gauge | connections | `generation`; 0 for plain TCP | live connections, by the generation they were made under |
//! | `tls_drains_total` | counter | connections | `reason`: [`crate::DrainReason::code`] | connections told to go; a reason appears with its first drain |
//! | `tls_connections_cut_total` | counter | connections | | connections cut because they did not go within the drain grace |
//! | `tls_listener_rebinds_total` | counter | sockets | | new listening sockets on the same port |
//! | `tls_old_generation_last_byte_seconds` | gauge | seconds | | longest time from the first sign of a change to the last byte sent under what it replaced |
//! | `tls_generation` | gauge | number | | the generation that new connections get, from 1 |
//! | `tls_certificate_not_before_seconds` | gauge | seconds | | start of our certificate's validity |
//! | `tls_certificate_not_after_seconds` | gauge | seconds | | end of our certificate's validity |
//! | `tls_trust_not_after_seconds` | gauge | seconds | | end of the first certificate of the truststore to end |
//! | `tls_expiry_alarm` | gauge | 0 or 1 | | 1 while [`crate::BundleStatus::alarm`] is set |
//! | `tls_reloads_total` | counter | reloads | `result`: `published`, `failed` | new generations, and looks at changed files that kept the old one |
//! | `tls_reload_failing` | gauge | 0 or 1 | | 1 while the files on disk are not what is served |
//! | `tls_last_reload_timestamp_seconds` | gauge | seconds | | when the current generation was published |
//! | `tls_reload_slowest_seconds` | gauge | seconds | | longest time from the first sign of a change to its generation |
//! | `tls_watcher_enabled` | gauge | 0 or 1 | | 1 if the files are followed |
//! | `tls_watcher_looks_total` | counter | looks | | how often the files were read and compared, whatever came of it |
//! | `tls_watcher_restarts_total` | counter | restarts | | how often the process's file watcher died and a new one took over |
//! | `tls_watcher_last_look_timestamp_seconds` | gauge | seconds | | when the files were last looked at after the start |

use crate::context::BundleStatus;
use crate::endpoint::EndpointStatus;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The media type to serve the text under.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A label's name and value.
pub type Label<'a> = (&'a str, &'a str);

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while its process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Every family of the table above, for all `endpoints`, each given with the caller's own labels.
///
/// Names of labels must be valid (`[a-zA-Z_][a-zA-Z0-9_]*`) and none of `endpoint`, `bundle`, `generation`, `reason`,
/// `result`; others are left out. Two endpoints with equal names need labels that tell them apart: of equal series only
/// the first is written.
pub fn render<'a>(endpoints: impl IntoIterator<Item = (&'a [Label<'a>], &'a EndpointStatus)>) -> String {
    let endpoints: Vec<_> = endpoints.into_iter().map(|(labels, status)| (foreign(labels), status)).collect();
    let mut text = String::new();
    for of_endpoint in OF_ENDPOINT {
        let mut family = Writer::new(&mut text, of_endpoint.head);
        for (labels, status) in &endpoints {
            let own = [("endpoint", status.endpoint.as_str())];
            (of_endpoint.samples)(status, &mut |more, value| family.sample(&[labels, &own, more], value));
        }
    }
    for of_bundle in OF_BUNDLE {
        let mut family = Writer::new(&mut text, of_bundle.head);
        for (labels, status) in &endpoints {
            let Some(bundle) = &status.bundle else { continue };
            let own = [("endpoint", status.endpoint.as_str()), ("bundle", bundle.bundle.as_str())];
            (of_bundle.samples)(bundle, status, &mut |more, value| family.sample(&[labels, &own, more], value));
        }
    }
    text
}

/// One more family, of the caller's own, in the same format.
///
/// `name` must be a valid metric name that is not in the table above. Labels are treated as in [`render`].
pub fn family<'a>(
    name: &str,
    kind: Kind,
    help: &str,
    samples: impl IntoIterator<Item = (&'a [Label<'a>], f64)>,
) -> String {
    let mut text = String::new();
    let mut family = Writer::new(&mut text, (name, kind, help));
    for (labels, value) in samples {
        family.sample(&[&foreign(labels)], value);
    }
    text
}

/// Takes the labels beside `endpoint` and `bundle`, and the value.
type Emit<'e> = &'e mut dyn FnMut(&[Label<'_>], f64);

struct Family<S> {
    head: (&'static str, Kind, &'static str),
    samples: S,
}

type OfEndpoint = fn(&EndpointStatus, Emit<'_>);
type OfBundle = fn(&BundleStatus, &EndpointStatus, Emit<'_>);

const OF_ENDPOINT: &[Family<OfEndpoint>] = &[
    Family {
        head: ("tls_handshakes_total", Kind::Counter, "Handshakes of both sides."),
        samples: |status, emit| {
            emit(&[("result", "full")], number(status.handshakes.saturating_sub(status.handshakes_resumed)));
            emit(&[("result", "resumed")], number(status.handshakes_resumed));
            emit(&[("result", "failed")], number(status.failed_handshakes));
        },
    },
    Family {
        head: ("tls_handshake_failures_total", Kind::Counter, "Failed handshakes by reason."),
        samples: |status, emit| {
            status.failed_by_reason.iter().for_each(|(reason, count)| emit(&[("reason", reason)], number(*count)));
        },
    },
    Family {
        head: ("tls_refused_connects_total", Kind::Counter, "Own connects that TCP refused or reset."),
        samples: |status, emit| emit(&[], number(status.refused_connects)),
    },
    Family {
        head: ("tls_connections", Kind::Gauge, "Live connections by the generation they were made under."),
        samples: |status, emit| {
            for (generation, count) in &status.connections_by_generation {
                emit(&[("generation", &generation.to_string())], number(*count));
            }
        },
    },
    Family {
        head: ("tls_drains_total", Kind::Counter, "Connections told to go."),
        samples: |status, emit| {
            status.drained_by_reason.iter().for_each(|(reason, count)| emit(&[("reason", reason)], number(*count)));
        },
    },
    Family {
        head: ("tls_connections_cut_total", Kind::Counter, "Connections that did not go within the drain grace."),
        samples: |status, emit| emit(&[], number(status.killed)),
    },
    Family {
        head: ("tls_listener_rebinds_total", Kind::Counter, "New listening sockets on the same port."),
        samples: |status, emit| emit(&[], number(status.listener_rebinds)),
    },
    Family {
        head: (
            "tls_old_generation_last_byte_seconds",
            Kind::Gauge,
            "Longest time from the first sign of a change to the last byte sent under what it replaced.",
        ),
        samples: |status, emit| emit(&[], number(status.last_old_byte_ms) / 1000.0),
    },
];

const OF_BUNDLE: &[Family<OfBundle>] = &[
    Family {
        head: ("tls_generation", Kind::Gauge, "The generation that new connections get."),
        samples: |bundle, _, emit| emit(&[], number(bundle.generation)),
    },
    Family {
        head: ("tls_certificate_not_before_seconds", Kind::Gauge, "Start of our certificate's validity, Unix time."),
        samples: |bundle, _, emit| bundle.not_before.into_iter().for_each(|at| emit(&[], moment(at))),
    },
    Family {
        head: ("tls_certificate_not_after_seconds", Kind::Gauge, "End of our certificate's validity, Unix time."),
        samples: |bundle, _, emit| bundle.not_after.into_iter().for_each(|at| emit(&[], moment(at))),
    },
    Family {
        head: (
            "tls_trust_not_after_seconds",
            Kind::Gauge,
            "End of the first certificate of the truststore to end, Unix time.",
        ),
        samples: |bundle, _, emit| bundle.trust_not_after.into_iter().for_each(|at| emit(&[], moment(at))),
    },
    Family {
        head: ("tls_expiry_alarm", Kind::Gauge, "1 while a certificate is near its end or past it."),
        samples: |bundle, _, emit| emit(&[], flag(bundle.alarm.is_some())),
    },
    Family {
        head: ("tls_reloads_total", Kind::Counter, "Reloads of the bundle's files after the first."),
        samples: |bundle, _, emit| {
            emit(&[("result", "published")], number(bundle.reloads));
            emit(&[("result", "failed")], number(bundle.failed_reloads));
        },
    },
    Family {
        head: ("tls_reload_failing", Kind::Gauge, "1 while the files on disk are not what is served."),
        samples: |bundle, _, emit| emit(&[], flag(bundle.last_error.is_some())),
    },
    Family {
        head: (
            "tls_last_reload_timestamp_seconds",
            Kind::Gauge,
            "When the current generation was published, Unix time.",
        ),
        samples: |bundle, _, emit| emit(&[], moment(bundle.last_reload) / 1000.0),
    },
    Family {
        head: (
            "tls_reload_slowest_seconds",
            Kind::Gauge,
            "Longest time from the first sign of a change to its generation.",
        ),
        samples: |_, endpoint, emit| emit(&[], number(endpoint.slowest_reload_ms) / 1000.0),
    },
    Family {
        head: ("tls_watcher_enabled", Kind::Gauge, "1 if the files are followed."),
        samples: |bundle, _, emit| emit(&[], flag(bundle.watching)),
    },
    Family {
        head: ("tls_watcher_looks_total", Kind::Counter, "How often the files were read and compared."),
        samples: |bundle, _, emit| emit(&[], number(bundle.checks)),
    },
    Family {
        head: ("tls_watcher_restarts_total", Kind::Counter, "How often the file watcher died and a new one took over."),
        samples: |bundle, _, emit| emit(&[], number(bundle.watcher_restarts)),
    },
    Family {
        head: (
            "tls_watcher_last_look_timestamp_seconds",
            Kind::Gauge,
            "When the files were last looked at after the start, Unix time.",
        ),
        samples: |bundle, _, emit| bundle.last_look.into_iter().for_each(|at| emit(&[], moment(at) / 1000.0)),
    },
];

/// Labels that are ours to set.
const OWN_LABELS: [&str; 5] = ["endpoint", "bundle", "generation", "reason", "result"];

/// The caller's labels that can be used.
fn foreign<'a>(labels: &[Label<'a>]) -> Vec<Label<'a>> {
    let mut usable: Vec<Label<'a>> = Vec::new();
    for (name, value) in labels {
        let taken = OWN_LABELS.contains(name) || usable.iter().any(|(other, _)| other == name);
        if is_label_name(name) && !taken {
            usable.push((name, value));
        }
    }
    usable
}

fn is_label_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Writes one family: its head before the first sample, no series twice.
struct Writer<'t> {
    text: &'t mut String,
    head: (&'t str, Kind, &'t str),
    written: BTreeSet<String>,
}

impl<'t> Writer<'t> {
    fn new(text: &'t mut String, head: (&'t str, Kind, &'t str)) -> Self {
        Self { text, head, written: BTreeSet::new() }
    }

    fn sample(&mut self, labels: &[&[Label<'_>]], value: f64) {
        let (name, kind, help) = self.head;
        let labels = labels.iter().flat_map(|labels| labels.iter());
        let labels: Vec<String> = labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value, true))).collect();
        let series = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        if self.written.contains(&series) {
            return;
        }
        if self.written.is_empty() {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {kind}", escaped(help, false));
        }
        let _ = writeln!(self.text, "{name}{series} {value}");
        self.written.insert(series);
    }
}

/// As the format wants it: backslashes and line feeds, in values of labels also quotes.
fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

/// Prometheus' numbers are floating-point numbers; above 2^53 the last digits are lost.
fn number(count: u64) -> f64 {
    count as f64
}

fn moment(time: i64) -> f64 {
    time as f64
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

#[cfg(test)]
mod tests;
