//! The REST API: which path leads to which handler, and what holds for all of them.

mod cluster;
mod jobs;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{Method, Uri, header};
use tokio::time::timeout;

use crate::{backend::Backend, problem::Problem};

/// Largest SQL script, in bytes (1 MiB).
pub const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// What an operator can set about the API.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// Largest body of a request, in bytes. Scripts also have a limit of their own, [`SCRIPT_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// A request that takes longer is answered 503.
    pub request_timeout: Duration,
    /// How often a dashboard should look.
    pub refresh_interval: Duration,
}

/// What the handlers share.
#[derive(Clone)]
struct Api {
    backend: Arc<dyn Backend>,
    script_bytes_max: usize,
    refresh_interval: Duration,
}

/// Every path is there twice: Flink's CLI asks for `/v1/x`, its dashboard for `/x`.
pub fn router(backend: Arc<dyn Backend>, options: &ApiOptions) -> Router {
    let script_bytes_max = options.body_bytes_max.min(SCRIPT_BYTES_MAX);
    let request_timeout = options.request_timeout;
    ["", "/v1"]
        .into_iter()
        .fold(Router::new(), |router, version| {
            let path = |path: &str| format!("{version}{path}");
            router
                .route(&path("/overview"), get(cluster::overview))
                .route(&path("/config"), get(cluster::config))
                .route(&path("/taskmanagers"), get(cluster::task_managers))
                .route(&path("/taskmanagers/{id}"), get(cluster::task_manager))
                .route(&path("/taskmanagers/{id}/usage"), get(cluster::task_manager_usage))
                .route(&path("/tls"), get(cluster::tls))
                .route(&path("/jobs"), get(jobs::ids))
                .route(&path("/jobs/overview"), get(jobs::overview))
                .route(&path("/jobs/sql"), post(jobs::submit))
                .route(&path("/jobs/{id}"), get(jobs::details).patch(jobs::cancel))
                .route(&path("/jobs/{id}/status"), get(jobs::status))
                .route(&path("/jobs/{id}/exceptions"), get(jobs::exceptions))
                .route(&path("/jobs/{id}/vertices/{vertex}/metrics"), get(jobs::vertex_metrics))
                .route(&path("/jobs/{id}/vertices/{vertex}/watermarks"), get(jobs::watermarks))
        })
        // Where Prometheus looks; Flink has nothing there.
        .route("/metrics", get(cluster::prometheus))
        .fallback(async |uri: Uri| Problem::NotFound(format!("Unable to load requested file {}.", uri.path())))
        .method_not_allowed_fallback(async |method: Method| Problem::MethodNotAllowed(method.to_string()))
        .layer(DefaultBodyLimit::max(script_bytes_max))
        .layer(from_fn(move |request: Request, next: Next| in_time(request_timeout, request, next)))
        .layer(from_fn(same_origin))
        .with_state(Api { backend, script_bytes_max, refresh_interval: options.refresh_interval })
}

async fn in_time(limit: Duration, request: Request, next: Next) -> Response {
    timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        let problem = format!("no answer within {} s: is the JobManager overloaded?", limit.as_secs());
        Problem::Unavailable(problem).into_response()
    })
}

/// A web page somewhere else must not give orders here through the browser of somebody who may. Browsers name the
/// page's origin with whatever is not a plain read; everything that is not a browser names none.
async fn same_origin(request: Request, next: Next) -> Result<Response, Problem> {
    let origin = request.headers().get(header::ORIGIN);
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(|authority| authority.as_str()));
    let from_here = match origin.map(|origin| origin.to_str().unwrap_or_default()) {
        None => true,
        Some(origin) => origin.split_once("://").is_some_and(|(_, origin)| Some(origin) == host),
    };
    if from_here || request.method().is_safe() {
        Ok(next.run(request).await)
    } else {
        Err(Problem::Forbidden("a page of another origin may not change anything here".to_owned()))
    }
}
