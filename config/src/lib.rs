//! Flink-style configuration: `key: value` in, typed options and TLS endpoints out.
//!
//! ```text
//!  conf/config.yaml ─▶ TIDEMILL_PROPERTIES ─▶ -Dkey=value ─▶ Configuration ─▶ get(&options::X) ─▶ typed value
//!   (nested or dotted)   (environment, YAML)                 (checked once)  └▶ tls::…          ─▶ TlsContext, Endpoint
//! ```
//!
//! Each source overrides the one to its left. Everything is checked when it is loaded, so that a bad value stops a
//! process at its start and not when it is first needed: an unknown security option, a security option that Tidemill
//! does not have and a value that does not parse are errors; any other unknown key is a warning. No option is
//! silently ignored.
//!
//! Every option is a constant in [`options`], typed by what it holds; its default and documentation are there too.

pub mod address;
pub mod bootstrap;
mod check;
mod configuration;
mod error;
mod option;
pub mod options;
pub mod tls;
pub mod value;
mod yaml;

pub use configuration::{Configuration, PROPERTIES_VARIABLE};
pub use error::ConfigError;
pub use option::{ConfigOption, OptionInfo};
pub use value::{CompressionCodec, ConfigValue, DataTransport, LogFormat, MemorySize, OrDefault, Refusal};
