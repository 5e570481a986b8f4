//! Which TaskManagers there are ([`registry`]) and which job has which of their slots ([`slots`]). Both are pure: they
//! are told what happened and when, and never wait.

pub mod registry;
pub mod slots;
