//! [`Problem`]: everything that can be wrong with a request, and the one place that turns it into a status and a body.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use thiserror::Error;
use tracing::warn;

use crate::dto::Errors;

/// Why a request was not answered as hoped. The text is the whole of what the client sees: a sentence, no stack traces.
#[derive(Debug, Error)]
pub enum Problem {
    /// The client's: it asked for something that is not there.
    #[error("{0}")]
    NotFound(String),
    /// The client's: it did not say what it wants in a way that makes sense.
    #[error("{0}")]
    BadRequest(String),
    /// The client's, or a web page's that should not be able to give orders here.
    #[error("{0}")]
    Forbidden(String),
    /// The client's.
    #[error("{0} is not allowed here")]
    MethodNotAllowed(String),
    /// The client's: it came too late, or the id is taken.
    #[error("{0}")]
    Conflict(String),
    /// The client's.
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    /// The operator's: a process this one needs cannot be reached, or is busy. The same request may work later.
    #[error("{0}")]
    Unavailable(String),
    /// Ours.
    #[error("{0}")]
    Internal(String),
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            warn!(%status, error = %self, "cannot answer a request");
        }
        (status, Json(Errors { errors: vec![self.to_string()] })).into_response()
    }
}
