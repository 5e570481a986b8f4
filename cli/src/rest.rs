//! A client of the REST gateway: one HTTPS connection per request, over the same TLS as everything else.

use std::time::Duration;

use bytes::Bytes;
use config::Configuration;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rest_gateway::dto::{Errors, JobExceptions, SubmitSql, Submitted};
use serde::de::DeserializeOwned;
use tls_common::{ConnectError, Connector};
use tokio::time::timeout;

/// Talks to one gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RestClient {
    connector: Connector,
    host: String,
    port: u16,
    secure: bool,
}

impl RestClient {
    /// The gateway at `rest.address` and `rest.port`, with `security.ssl.rest.*` for HTTPS.
    ///
    /// # Errors
    /// The configuration's fault: an invalid address, a truststore that cannot be read.
    pub async fn from_config(configuration: &Configuration) -> Result<Self, RestError> {
        let context = config::tls::rest_client_context(configuration).await?;
        let endpoint = config::tls::rest_endpoint(configuration, context.as_ref())?;
        Ok(Self {
            connector: endpoint.connector(&["http/1.1"]),
            host: configuration.get(&config::options::REST_ADDRESS)?,
            port: configuration.get(&config::options::REST_PORT)?,
            secure: context.is_some(),
        })
    }

    /// `https://host:port`, or `http://...` without TLS.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }

    /// Whether it is HTTPS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// GET, the answer parsed.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RestError> {
        parse(&self.request(Method::GET, path, Bytes::new()).await?)
    }

    /// Submits a SQL script.
    ///
    /// # Errors
    /// See [`RestError`]; a script that cannot be planned is [`RestError::Refused`].
    pub async fn submit(&self, job: &SubmitSql) -> Result<Submitted, RestError> {
        let body = serde_json::to_vec(job).map_err(RestError::Json)?;
        parse(&self.request(Method::POST, "/v1/jobs/sql", body.into()).await?)
    }

    /// Why a job failed, in the cluster's words; `None` if it did not.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn cause(&self, job: &str) -> Result<Option<String>, RestError> {
        let exceptions: JobExceptions = self.get(&format!("/v1/jobs/{job}/exceptions")).await?;
        Ok(exceptions.exception_history.entries.into_iter().next().map(|entry| entry.stacktrace))
    }

    /// Asks for a job to be canceled; that it is accepted does not mean that it has ended.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn cancel(&self, job: &str) -> Result<(), RestError> {
        self.request(Method::PATCH, &format!("/v1/jobs/{job}?mode=cancel"), Bytes::new()).await.map(drop)
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, RestError> {
        timeout(REQUEST_TIMEOUT, self.exchange(method, path, body)).await.map_err(|_| RestError::Timeout)?
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, RestError> {
        let connection = self.connector.connect(&self.host, self.port).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.authority());
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).map_err(RestError::Request)?;
        let answer = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
            let body = body.map_err(RestError::Body)?.to_bytes();
            if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
        };
        // The connection's own error, if any, surfaces in the answer.
        let (answer, _) = tokio::join!(answer, connection);
        answer
    }
}

/// Whether a job in this state has come to its end.
pub fn is_final(state: &str) -> bool {
    matches!(state, "FINISHED" | "FAILED" | "CANCELED")
}

/// Why a request had no good answer.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// Ours: a wrong key or file in the configuration.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// Nobody there, or not one we trust.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Ours: the path is not one, for example because a job id has a blank in it.
    #[error("not a valid request: {0}")]
    Request(http::Error),
    /// The connection broke, or it is no HTTP server.
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    /// The connection broke in the answer, or the answer is unreasonably long.
    #[error("no complete answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The gateway's fault or the network's.
    #[error("no answer within {REQUEST_TIMEOUT:?}")]
    Timeout,
    /// The gateway says no, and why.
    #[error("{message} (HTTP {status})")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The gateway's words.
        message: String,
    },
    /// The answer is not what this version expects: not our gateway, or another version.
    #[error("unexpected answer: {0}")]
    Json(serde_json::Error),
}

impl RestError {
    /// Whether the same request may succeed a little later: nobody there, a broken connection, a cluster that is busy.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Http(_) | Self::Body(_) | Self::Timeout => true,
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            Self::Config(_) | Self::Request(_) | Self::Json(_) => false,
        }
    }
}

/// Flink's shape of an error: `{"errors": ["..."]}`.
fn refusal(status: StatusCode, body: &[u8]) -> RestError {
    let message = serde_json::from_slice::<Errors>(body).map_or_else(
        |_| String::from_utf8_lossy(body).chars().take(MAX_MESSAGE_CHARS).collect(),
        |errors| errors.errors.join("; "),
    );
    RestError::Refused { status, message }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, RestError> {
    serde_json::from_slice(body).map_err(RestError::Json)
}

/// From the connect to the last byte of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer we read, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// Longest error text we repeat from somebody who is not our gateway, in characters.
const MAX_MESSAGE_CHARS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_repeats_the_gateways_words() {
        let error = refusal(StatusCode::NOT_FOUND, br#"{"errors":["Job 12 not found"]}"#);
        assert_eq!(error.to_string(), "Job 12 not found (HTTP 404 Not Found)");
        let error = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(error.to_string(), "<html> (HTTP 502 Bad Gateway)");
    }
}
