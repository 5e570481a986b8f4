//! Jobs: list, look at, submit, cancel.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::BytesRejection, rejection::QueryRejection},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};
use proto::ids::JobId;
use serde::Deserialize;

use super::Api;
use crate::{
    dto::{Accepted, JobDetails, JobExceptions, JobIds, JobStatus, JobsOverview, Metric, SubmitSql, Submitted},
    problem::Problem,
    render,
};

pub(super) async fn ids(State(api): State<Api>) -> Result<Json<JobIds>, Problem> {
    Ok(Json(JobIds { jobs: api.backend.jobs().await?.iter().map(render::job_id).collect() }))
}

pub(super) async fn overview(State(api): State<Api>) -> Result<Json<JobsOverview>, Problem> {
    Ok(Json(JobsOverview { jobs: api.backend.jobs().await?.iter().map(render::job_overview).collect() }))
}

pub(super) async fn details(State(api): State<Api>, Job(id): Job) -> Result<Json<JobDetails>, Problem> {
    Ok(Json(render::job_details(api.backend.job(id).await?)))
}

pub(super) async fn status(State(api): State<Api>, Job(id): Job) -> Result<Json<JobStatus>, Problem> {
    let job = api.backend.job(id).await?.job.unwrap_or_default();
    Ok(Json(JobStatus { status: job.state().name().to_owned() }))
}

pub(super) async fn exceptions(State(api): State<Api>, Job(id): Job) -> Result<Json<JobExceptions>, Problem> {
    Ok(Json(render::exceptions(api.backend.job(id).await?)))
}

/// With `get=a,b` the values of these, otherwise the names of all. Late records are `numLateRecordsDropped`.
pub(super) async fn vertex_metrics(
    State(api): State<Api>,
    Vertex { job, vertex }: Vertex,
    selection: Result<Query<MetricSelection>, QueryRejection>,
) -> Result<Json<Vec<Metric>>, Problem> {
    let Query(MetricSelection { get }) = selection.map_err(|rejection| Problem::BadRequest(rejection.body_text()))?;
    let mut metrics = api.vertex_metrics(job, &vertex).await?;
    match get {
        Some(wanted) => metrics.retain(|metric| wanted.split(',').any(|id| id == metric.id)),
        None => metrics.iter_mut().for_each(|metric| metric.value = None),
    }
    Ok(Json(metrics))
}

pub(super) async fn watermarks(
    State(api): State<Api>,
    Vertex { job, vertex }: Vertex,
) -> Result<Json<Vec<Metric>>, Problem> {
    let mut metrics = api.vertex_metrics(job, &vertex).await?;
    metrics.retain(|metric| metric.id.ends_with(render::WATERMARK));
    Ok(Json(metrics))
}

impl Api {
    async fn vertex_metrics(&self, job: JobId, vertex: &str) -> Result<Vec<Metric>, Problem> {
        let described = self.backend.job(job).await?;
        let found = described.vertices.iter().find(|details| details.id == vertex);
        found.map(render::metrics).ok_or_else(|| Problem::NotFound(format!("Job {job} has no vertex {vertex}")))
    }
}

pub(super) async fn submit(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Submitted>), Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::TooLarge { limit: api.script_bytes_max },
        _ => Problem::BadRequest(rejection.body_text()),
    })?;
    let id = api.backend.submit(script(&headers, &body)?).await?;
    Ok((StatusCode::ACCEPTED, Json(Submitted { jobid: id.to_string(), job_url: format!("/jobs/{id}") })))
}

/// Flink's `mode=stop` is long gone there too.
pub(super) async fn cancel(
    State(api): State<Api>,
    Job(id): Job,
    mode: Result<Query<CancelMode>, QueryRejection>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let Query(CancelMode { mode }) = mode.map_err(|rejection| Problem::BadRequest(rejection.body_text()))?;
    match mode.as_deref() {
        None | Some("cancel") => api.backend.cancel(id).await?,
        Some(mode) => {
            return Err(Problem::BadRequest(format!("a job can be ended with mode=cancel, not with mode={mode}")));
        }
    }
    Ok((StatusCode::ACCEPTED, Json(Accepted {})))
}

#[derive(Debug, Deserialize)]
pub(super) struct CancelMode {
    mode: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct MetricSelection {
    get: Option<String>,
}

/// The job that the path names.
#[derive(Debug)]
pub(super) struct Job(JobId);

impl<S: Send + Sync> FromRequestParts<S> for Job {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::BadRequest(rejection.body_text()))?;
        job_id(&text).map(Self)
    }
}

/// The vertex of a job that the path names.
#[derive(Debug)]
pub(super) struct Vertex {
    job: JobId,
    vertex: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Vertex {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path((job, vertex)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::BadRequest(rejection.body_text()))?;
        Ok(Self { job: job_id(&job)?, vertex })
    }
}

/// In Flink's words.
fn job_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map_err(|_| {
        Problem::BadRequest(format!(
            "Bad request, could not parse parameters: Cannot resolve path parameter (jobid) from value {text:?}."
        ))
    })
}

fn script(headers: &HeaderMap, body: &Bytes) -> Result<SubmitSql, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let job = if content_type.starts_with("application/json") {
        serde_json::from_slice(body).map_err(|error| {
            Problem::BadRequest(format!(r#"the body is not {{"sql": ..., "name": ..., "parallelism": ...}}: {error}"#))
        })?
    } else {
        let sql = str::from_utf8(body)
            .map_err(|_| Problem::BadRequest("the body is not a SQL script: it is not UTF-8 text".to_owned()))?;
        SubmitSql { sql: sql.to_owned(), name: None, parallelism: None }
    };
    if job.sql.trim().is_empty() {
        return Err(Problem::BadRequest("the body is empty: send the SQL script".to_owned()));
    }
    if job.parallelism == Some(0) {
        return Err(Problem::BadRequest("a job needs a parallelism of at least 1".to_owned()));
    }
    Ok(job)
}
