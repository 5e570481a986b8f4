//! Ids that cross a wire. Inside a process they are these types; in a message they are text, parsed where the message
//! comes in.

use std::fmt;
use std::str::FromStr;

use rand::RngCore;
use serde::{Deserialize, Serialize};

/// Longest TaskManager id, in bytes.
pub const MAX_TASK_MANAGER_ID_BYTES: usize = 255;

macro_rules! id16 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 16]);

        impl $name {
            /// A fresh one, from the process's random number generator.
            pub fn random() -> Self {
                let mut bytes = [0; 16];
                rand::rng().fill_bytes(&mut bytes);
                Self(bytes)
            }

            /// From its 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hex16(text).map(Self).ok_or_else(|| InvalidId::new($what, "32 hexadecimal digits", text))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

id16!(
    /// One submitted job.
    JobId,
    "job id"
);
id16!(
    /// One attempt at running one subtask of a job.
    AttemptId,
    "attempt id"
);
id16!(
    /// One registration of a TaskManager at a JobManager: a TaskManager that comes back has a new one.
    InstanceId,
    "instance id"
);

/// The name of a TaskManager, stable over restarts if configured (`taskmanager.resource-id`). 1 to
/// [`MAX_TASK_MANAGER_ID_BYTES`] bytes of printable ASCII without spaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskManagerId(String);

impl TaskManagerId {
    /// `prefix` and six random hexadecimal digits, as Flink names a TaskManager that has no configured id.
    pub fn random(prefix: &str) -> Result<Self, InvalidId> {
        format!("{prefix}-{:06x}", rand::rng().next_u32() & 0xff_ffff).parse()
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TaskManagerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=MAX_TASK_MANAGER_ID_BYTES).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::new("TaskManager id", "1 to 255 printable ASCII characters without spaces", text))
        }
    }
}

impl TryFrom<String> for TaskManagerId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<TaskManagerId> for String {
    fn from(id: TaskManagerId) -> String {
        id.0
    }
}

/// Text that is not the id it should be: the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: {text:?} (expected {expected})")]
pub struct InvalidId {
    what: &'static str,
    expected: &'static str,
    text: String,
}

impl InvalidId {
    /// Only the beginning of the text is kept, so that a hostile one does not fill the log.
    fn new(what: &'static str, expected: &'static str, text: &str) -> Self {
        Self { what, expected, text: text.chars().take(64).collect() }
    }
}

fn parse_hex16(text: &str) -> Option<[u8; 16]> {
    let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(*pair.first()?).to_digit(16)?;
        let low = char::from(*pair.last()?).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_job_id_survives_text(bytes: [u8; 16]) {
            let id = JobId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
            prop_assert_eq!(id.to_string().to_uppercase().parse::<JobId>().unwrap(), id);
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<AttemptId>();
            let _ = text.parse::<TaskManagerId>();
        }
    }

    #[test]
    fn other_lengths_and_letters_are_refused() {
        for text in ["", "00", &"0".repeat(31), &"0".repeat(33), &"g".repeat(32), "+0000000000000000000000000000000"] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
        for text in ["", "a b", "ä", &"x".repeat(256)] {
            assert!(text.parse::<TaskManagerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn random_task_manager_ids_are_flinks() {
        let id = TaskManagerId::random("localhost:35265").unwrap();
        assert!(id.as_str().starts_with("localhost:35265-") && id.as_str().len() == "localhost:35265-f82f99".len());
    }
}
