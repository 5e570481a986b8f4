//! [`ConfigOption`]: one key with its type, default and documentation.

use crate::value::{ConfigValue, Refusal};
use std::fmt;
use std::marker::PhantomData;

/// A known key whose values are of type `T`. All of them are in [`crate::options`].
pub struct ConfigOption<T> {
    info: OptionInfo,
    value: PhantomData<fn() -> T>,
}

/// What is known about an option, whatever its type: for documentation, masking and checks.
#[derive(Clone, Copy)]
pub struct OptionInfo {
    key: &'static str,
    description: &'static str,
    default: Option<&'static str>,
    fallback_keys: &'static [&'static str],
    deprecated_keys: &'static [&'static str],
    form: &'static str,
    secret: bool,
    positive: bool,
    check: fn(&OptionInfo, &str) -> Result<(), Refusal>,
}

impl<T: ConfigValue> ConfigOption<T> {
    /// An option without default; it is secret if its type is.
    pub(crate) const fn new(key: &'static str, description: &'static str) -> Self {
        let info = OptionInfo {
            key,
            description: description.trim_ascii(),
            default: None,
            fallback_keys: &[],
            deprecated_keys: &[],
            form: T::FORM,
            secret: T::SECRET,
            positive: false,
            check: |info, text| parse::<T>(info, text).map(drop),
        };
        Self { info, value: PhantomData }
    }

    pub(crate) const fn with_default(mut self, default: &'static str) -> Self {
        self.info.default = Some(default);
        self
    }

    pub(crate) const fn with_fallback(mut self, keys: &'static [&'static str]) -> Self {
        self.info.fallback_keys = keys;
        self
    }

    pub(crate) const fn with_deprecated(mut self, keys: &'static [&'static str]) -> Self {
        self.info.deprecated_keys = keys;
        self
    }

    /// Whether zero is refused, because it would stop things or make them spin.
    pub(crate) const fn positive(mut self, positive: bool) -> Self {
        self.info.positive = positive;
        self
    }

    pub(crate) fn parse(&self, text: &str) -> Result<T, Refusal> {
        parse(&self.info, text)
    }
}

fn parse<T: ConfigValue>(info: &OptionInfo, text: &str) -> Result<T, Refusal> {
    let value = T::parse(text)?;
    if info.positive && value.is_zero() { Err(Refusal::Because("it must be more than zero")) } else { Ok(value) }
}

impl<T> ConfigOption<T> {
    /// The key, e.g. `rest.port`.
    pub const fn key(&self) -> &'static str {
        self.info.key
    }

    /// Everything else.
    pub const fn info(&self) -> &OptionInfo {
        &self.info
    }
}

impl OptionInfo {
    /// The key.
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// What it does, in Markdown.
    pub const fn description(&self) -> &'static str {
        self.description
    }

    /// The default, as one would write it.
    pub const fn default(&self) -> Option<&'static str> {
        self.default
    }

    /// Keys of wider scope that are asked, in this order, where this one is not set.
    pub const fn fallback_keys(&self) -> &'static [&'static str] {
        self.fallback_keys
    }

    /// Former names, asked last; using one is noted in the log.
    pub const fn deprecated_keys(&self) -> &'static [&'static str] {
        self.deprecated_keys
    }

    /// What a value looks like, e.g. "a duration such as `10 s`".
    pub const fn form(&self) -> &'static str {
        self.form
    }

    /// Whether values are masked wherever they are shown.
    pub const fn is_secret(&self) -> bool {
        self.secret
    }

    /// Every key by which the option can be set, in the order in which they are asked.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.key).chain(self.fallback_keys.iter().copied()).chain(self.deprecated_keys.iter().copied())
    }

    pub(crate) fn check(&self, text: &str) -> Result<(), Refusal> {
        (self.check)(self, text)
    }
}

impl<T> fmt::Debug for ConfigOption<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.info, f)
    }
}

impl fmt::Debug for OptionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigOption").field("key", &self.key).field("default", &self.default).finish_non_exhaustive()
    }
}
