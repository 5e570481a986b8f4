//! The exchange between tasks: which subtask a row belongs to, and how rows and events look in
//! payloads.

pub(crate) mod codec;
pub(crate) mod compression;
pub(crate) mod event;
pub(crate) mod gate;
pub(crate) mod key_group;
pub(crate) mod router;
