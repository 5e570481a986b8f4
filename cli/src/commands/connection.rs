//! How the commands find the REST gateway: flags shared by all of them.

use std::path::PathBuf;

use anyhow::{Context, bail};
use config::Configuration;
use http::Uri;

use crate::rest::RestClient;

#[derive(Debug, clap::Args)]
pub(super) struct Connection {
    /// Directory of the cluster's config.yaml, for its address and truststore
    #[arg(long, value_name = "DIR", default_value = "conf", conflicts_with = "rest_url")]
    config_dir: PathBuf,
    /// Address of the REST gateway, instead of a configuration
    #[arg(long, value_name = "URL")]
    rest_url: Option<Uri>,
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

impl Connection {
    pub(super) async fn client(&self) -> anyhow::Result<RestClient> {
        let configuration = match &self.rest_url {
            Some(url) => Configuration::from_pairs(self.options_for(url)?)?,
            None => Configuration::load(&self.config_dir, &self.settings)?,
        };
        Ok(RestClient::from_config(&configuration).await?)
    }

    /// The options that a URL and a CA file stand for.
    fn options_for(&self, url: &Uri) -> anyhow::Result<Vec<(String, String)>> {
        let host = url.host().context("--rest-url needs a host, as in https://localhost:8081")?;
        let secure = match url.scheme_str() {
            Some("https") | None => true,
            Some("http") => false,
            Some(other) => bail!("--rest-url cannot be {other}: use https or http"),
        };
        let mut options = vec![
            ("rest.address".to_owned(), host.trim_matches(['[', ']']).to_owned()),
            ("rest.port".to_owned(), url.port_u16().unwrap_or(DEFAULT_PORT).to_string()),
            ("security.ssl.rest.enabled".to_owned(), secure.to_string()),
        ];
        match &self.cacert {
            Some(file) => options.push((TRUSTSTORE.to_owned(), file.display().to_string())),
            None if secure && !self.settings.iter().any(|(key, _)| key == TRUSTSTORE) => {
                bail!("--rest-url with https needs --cacert, to know whom to believe");
            }
            None => {}
        }
        options.extend(self.settings.iter().cloned());
        Ok(options)
    }
}

pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected key=value")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

const TRUSTSTORE: &str = "security.ssl.rest.truststore";
/// The REST port if the URL names none, as in `rest.port`.
const DEFAULT_PORT: u16 = 8081;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn options(url: &str) -> anyhow::Result<Vec<(String, String)>> {
        let connection = Connection {
            config_dir: PathBuf::from("conf"),
            rest_url: Some(url.parse().unwrap()),
            cacert: Some(PathBuf::from("ca.pem")),
            settings: Vec::new(),
        };
        connection.options_for(connection.rest_url.as_ref().unwrap())
    }

    #[test]
    fn a_url_stands_for_options() {
        let options = options("https://[::1]:9000").unwrap();
        let expected = [("rest.address", "::1"), ("rest.port", "9000"), ("security.ssl.rest.enabled", "true")];
        for (key, value) in expected {
            assert!(options.contains(&(key.to_owned(), value.to_owned())), "{options:?}");
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        assert!(options("ftp://localhost").is_err());
    }
}
