//! What an acceptor or a connector makes of a generation, made once: a connection costs a comparison and a reference count.

use super::error::HandshakeError;
use crate::generation::Generation;
use arc_swap::ArcSwapOption;
use std::fmt;
use std::sync::Arc;

/// What the newest generation came to.
pub(crate) struct Latest<C>(ArcSwapOption<(u64, C)>);

impl<C: Clone> Latest<C> {
    /// What `make` made of `generation`, now or before. Who is late with an older one makes it again.
    pub(crate) fn of(
        &self,
        generation: &Generation,
        make: impl FnOnce() -> Result<C, HandshakeError>,
    ) -> Result<C, HandshakeError> {
        if let Some(made) = self.0.load().as_deref()
            && made.0 == generation.number()
        {
            return Ok(made.1.clone());
        }
        let made = make()?;
        self.0.store(Some(Arc::new((generation.number(), made.clone()))));
        Ok(made)
    }
}

impl<C> Default for Latest<C> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

impl<C> fmt::Debug for Latest<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Latest")
    }
}
