//! A password or other secret text: wiped when dropped, never printed.

use std::fmt;

use zeroize::Zeroizing;

/// Secret text. Its memory is wiped when it is dropped, and `Debug` prints `******`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of `text`; copies the caller made before stay the caller's to wipe.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Do not log it and do not put it into an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_does_not_show_the_text() {
        let secret = Secret::new("internal_store_password".into());
        assert_eq!(format!("{secret:?}"), "******");
        assert_eq!(secret.expose(), "internal_store_password");
    }
}
