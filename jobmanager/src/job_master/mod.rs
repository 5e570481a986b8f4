//! One job: what it consists of ([`plan`]), how its tasks are doing ([`execution`]), what follows from what happens to
//! them ([`scheduler`]), and what a TaskManager is told to run ([`deployment`]). All of it is pure.

pub mod deployment;
pub mod execution;
pub mod plan;
pub mod scheduler;
