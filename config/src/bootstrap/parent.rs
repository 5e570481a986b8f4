//! Ending with the process that started this one, however that one ends.
//!
//! The starter keeps the writing end of a pipe of which the reading end is our standard input. The system closes it even
//! when the starter is killed, and then there is somebody who notices.

use crate::configuration::Configuration;
use crate::error::ConfigError;
use crate::options;
use std::future;
use std::io;
use std::os::fd::AsFd;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// Who is watched; nobody unless `process.exit-with-parent` is set, and nobody any more once it has ended.
#[derive(Debug)]
pub(super) struct Parent(Option<Receiver>);

impl Parent {
    /// Call it within a runtime.
    pub(super) fn watched(configuration: &Configuration) -> Result<Self, ConfigError> {
        let option = &options::PROCESS_EXIT_WITH_PARENT;
        if !configuration.get(option)? {
            return Ok(Self(None));
        }
        let pipe = io::stdin().as_fd().try_clone_to_owned().and_then(Receiver::from_owned_fd);
        pipe.map(|pipe| Self(Some(pipe))).map_err(|error| ConfigError::NoParent { key: option.key(), error })
    }

    /// Waits for its end, once. Cancel safe.
    pub(super) async fn gone(&mut self) {
        let Some(pipe) = &mut self.0 else { return future::pending().await };
        // Whatever it writes is not for us. An error is no sign of life either.
        let mut ignored = [0; 64];
        while pipe.read(&mut ignored).await.is_ok_and(|length| length > 0) {}
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn the_end_of_the_parent_is_noticed_once() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut parent = Parent(Some(Receiver::from_owned_fd(OwnedFd::from(reader)).unwrap()));
        writer.write_all(b"hello").unwrap();
        assert!(timeout(Duration::ZERO, parent.gone()).await.is_err());
        drop(writer);
        parent.gone().await;
        assert!(timeout(Duration::ZERO, parent.gone()).await.is_err());
    }

    #[tokio::test]
    async fn nobody_is_watched_unless_asked_for() {
        let mut parent = Parent::watched(&Configuration::default()).unwrap();
        assert!(timeout(Duration::ZERO, parent.gone()).await.is_err());
    }
}
