//! How the commands find the REST gateway: flags shared by all of them.

use std::path::{Path, PathBuf};

use anyhow::bail;
use config::Configuration;
use http::Uri;

use super::warn_of;
use crate::rest::RestClient;

#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// Directory of the cluster's config.yaml, for its address and truststore
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR, conflicts_with = "rest_url")]
    config_dir: PathBuf,
    /// Address of the REST gateway, instead of a configuration: http(s)://host, and :port unless it is the usual one
    #[arg(long, value_name = "URL", value_parser = gateway)]
    rest_url: Option<Gateway>,
    /// PEM file or truststore without a password with the gateway's CA, for --rest-url
    #[arg(long, value_name = "FILE", requires = "rest_url")]
    cacert: Option<PathBuf>,
    /// A configuration option; wins over config.yaml
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

/// A command's connection and how it prints.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Print the gateway's JSON answer instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

/// What a URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gateway {
    host: String,
    port: u16,
    secure: bool,
}

impl Connection {
    /// The options given one by one.
    pub(crate) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// Whether anything is said about it.
    pub(crate) fn is_given(&self) -> bool {
        self.rest_url.is_some() || self.config_dir != Path::new(DEFAULT_DIR) || !self.settings.is_empty()
    }

    pub(crate) async fn client(&self) -> anyhow::Result<RestClient> {
        let configuration = match &self.rest_url {
            Some(gateway) => Configuration::from_pairs(self.options_for(gateway)?)?,
            None => Configuration::load(&self.config_dir, &self.settings)?,
        };
        warn_of(&configuration);
        Ok(RestClient::from_config(&configuration).await?)
    }

    /// The options that a URL and a CA file stand for.
    fn options_for(&self, gateway: &Gateway) -> anyhow::Result<Vec<(String, String)>> {
        let mut options = vec![
            ("rest.address".to_owned(), gateway.host.clone()),
            ("rest.port".to_owned(), gateway.port.to_string()),
            ("security.ssl.rest.enabled".to_owned(), gateway.secure.to_string()),
        ];
        match &self.cacert {
            Some(file) => options.push((TRUSTSTORE.to_owned(), file.display().to_string())),
            None if gateway.secure && !self.settings.iter().any(|(key, _)| key == TRUSTSTORE) => {
                bail!("--rest-url with https needs --cacert, to know whom to believe");
            }
            None => {}
        }
        options.extend(self.settings.iter().cloned());
        Ok(options)
    }
}

fn gateway(text: &str) -> Result<Gateway, String> {
    let url: Uri = text.parse().map_err(|error| format!("{error}; expected https://host:port"))?;
    let (secure, usual_port) = match url.scheme_str() {
        Some("https") | None => (true, 443),
        Some("http") => (false, 80),
        Some(other) => return Err(format!("it cannot be {other}: use https or http")),
    };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    if host.is_empty() {
        return Err("it has no host; expected https://host:port".to_owned());
    }
    // A gateway behind a path would need a proxy that takes the path off, and every request to have it.
    let has_user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if has_user || url.path_and_query().is_some_and(|path| path != "/") {
        return Err("give scheme, host and port only, as in https://localhost:8081".to_owned());
    }
    Ok(Gateway { host, port: url.port_u16().unwrap_or(usual_port), secure })
}

pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected key=value")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

const DEFAULT_DIR: &str = "conf";
const TRUSTSTORE: &str = "security.ssl.rest.truststore";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn parsed(url: &str) -> Option<(String, u16, bool)> {
        gateway(url).ok().map(|gateway| (gateway.host, gateway.port, gateway.secure))
    }

    #[test]
    fn the_scheme_tells_the_port_unless_the_url_does() {
        assert_eq!(parsed("https://gateway.example.org"), Some(("gateway.example.org".to_owned(), 443, true)));
        assert_eq!(parsed("http://gateway.example.org/"), Some(("gateway.example.org".to_owned(), 80, false)));
        assert_eq!(parsed("https://[::1]:9000"), Some(("::1".to_owned(), 9000, true)));
        assert_eq!(parsed("localhost:8081"), Some(("localhost".to_owned(), 8081, true)));
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for url in
            ["https://localhost/v1", "https://localhost?a=b", "https://me@localhost", "ftp://localhost", "/v1", ""]
        {
            assert_eq!(parsed(url), None, "{url}");
        }
    }

    #[test]
    fn a_url_stands_for_options() {
        let connection = Connection {
            config_dir: PathBuf::from("conf"),
            rest_url: None,
            cacert: Some(PathBuf::from("ca.pem")),
            settings: Vec::new(),
        };
        let options = connection.options_for(&gateway("https://[::1]:9000").unwrap()).unwrap();
        let expected = [("rest.address", "::1"), ("rest.port", "9000"), ("security.ssl.rest.enabled", "true")];
        for (key, value) in expected {
            assert!(options.contains(&(key.to_owned(), value.to_owned())), "{options:?}");
        }
    }
}
