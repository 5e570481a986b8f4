//! The cluster of `docker-compose.yml`, and what may happen to its containers.
//!
//! They run with `TIDEMILL_COMPOSE=1`, where there is an engine and somebody to talk to it (`docker compose` or
//! `docker-compose`). The image is made of the binary that the tests were built with, unless `TIDEMILL_IMAGE` names one.

mod certificates;
mod engine;
mod faults;
mod jobs;
mod lifecycle;
mod lockdown;
mod project;
