//! Every option Tidemill has: one constant per key. The Flink ones mean what they mean in Flink.
//!
//! A doc comment below is also the option's description at run time: [`all`] is the documentation table.

mod cluster;
mod security;

pub use cluster::*;
pub use security::*;

use crate::option::OptionInfo;

/// Every option, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static OptionInfo> {
    cluster::ALL.iter().chain(security::ALL).copied()
}

/// The options that `key` sets: as their own name, a fallback or a former name.
pub(crate) fn set_by(key: &str) -> impl Iterator<Item = &'static OptionInfo> {
    all().filter(move |option| option.keys().any(|candidate| candidate == key))
}

/// Declares options from `/// description` and
/// `NAME: Type = "key", default = …, fallback = […], deprecated = […], positive = true;`.
macro_rules! options {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident: $value:ty = $key:literal
        $(, default = $default:literal)? $(, fallback = $fallback:expr)? $(, deprecated = $deprecated:expr)?
        $(, positive = $positive:literal)?;
    )+) => {
        $(
            #[doc = concat!("`", $key, "`")]
            $(#[doc = concat!("(default `", $default, "`)")])?
            #[doc = ""]
            $(#[doc = $doc])+
            pub static $name: ConfigOption<$value> = ConfigOption::new($key, concat!($($doc),+))
                $(.with_default($default))? $(.with_fallback(&$fallback))? $(.with_deprecated(&$deprecated))?
                $(.positive($positive))?;
        )+

        pub(super) static ALL: &[&OptionInfo] = &[$($name.info()),+];
    };
}
use options;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_default_is_a_value_of_its_option() {
        for option in all() {
            if let Some(default) = option.default() {
                assert!(option.check(default).is_ok(), "{} = {default}", option.key());
            }
        }
    }

    #[test]
    fn every_option_is_documented_once() {
        let mut keys = BTreeSet::new();
        for option in all() {
            assert!(keys.insert(option.key()), "{} twice", option.key());
            assert!(option.description().ends_with(['.', ')']), "{}: {}", option.key(), option.description());
            assert!(!option.form().is_empty());
            assert!(!option.is_secret() || option.default().is_none(), "{}", option.key());
        }
    }

    #[test]
    fn passwords_are_secret_and_their_files_are_not() {
        for option in all() {
            assert_eq!(option.is_secret(), option.key().ends_with("-password"), "{}", option.key());
        }
    }
}
