//! What this thread's tests write into the log, read as users' tools read it.

use serde_json::Value;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// The log of a current-thread runtime, from its capture on.
pub struct Log {
    written: Written,
    _until_dropped: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// One JSON object per line.
    pub fn json() -> Self {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt().json().with_writer(written.clone()).finish();
        Self { written, _until_dropped: tracing::subscriber::set_default(subscriber) }
    }

    /// Lines for people, without time and colour.
    pub fn text() -> Self {
        let written = Written::default();
        let subscriber =
            tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(written.clone()).finish();
        Self { written, _until_dropped: tracing::subscriber::set_default(subscriber) }
    }

    pub fn written(&self) -> String {
        String::from_utf8(self.written.0.lock().unwrap().clone()).unwrap()
    }

    /// The fields of every event of `target` so far.
    pub fn events(&self, target: &str) -> Vec<Value> {
        let lines = self.written();
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["target"] == target).map(|mut event| event["fields"].take()).collect()
    }

    /// Waits for as many audit records of a kind (and some endpoint). The bound only ends a test that has failed.
    pub async fn audited(&self, endpoint: &str, event: &str, count: usize) -> Vec<Value> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let mut found = self.events("audit");
            found.retain(|fields| fields["endpoint"] == endpoint && fields["event"] == event);
            if found.len() >= count {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "{count} {event} of {endpoint}: {}", self.written());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
