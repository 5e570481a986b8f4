//! Which contexts look at their files when the process gets a SIGHUP.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tls_common::TlsContext;

/// The contexts of the running service. `None` while no service was started by [`crate::bootstrap`]: where no signal
/// comes from, as in tests, nothing is kept alive.
static CONTEXTS: Mutex<Option<Vec<TlsContext>>> = Mutex::new(None);

/// From now on contexts that are loaded are remembered, until the guard is dropped.
pub(crate) fn remember_contexts() -> Remembering {
    contexts().get_or_insert_default();
    Remembering(())
}

#[derive(Debug)]
pub(crate) struct Remembering(());

impl Drop for Remembering {
    fn drop(&mut self) {
        *contexts() = None;
    }
}

pub(super) fn add(context: &TlsContext) {
    if let Some(contexts) = contexts().as_mut() {
        contexts.push(context.clone());
    }
}

/// Lets every remembered context look at its files, as after a change. Returns how many follow their files at all
/// (`security.ssl.reload`).
pub(crate) fn reload_all() -> usize {
    let contexts = contexts();
    let watching = contexts.iter().flatten().filter(|context| context.status().watching);
    watching.map(TlsContext::reload_now).count()
}

fn contexts() -> MutexGuard<'static, Option<Vec<TlsContext>>> {
    CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner)
}
