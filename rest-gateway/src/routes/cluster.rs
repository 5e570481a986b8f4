//! The cluster as a whole: overview, TaskManagers, certificates, metrics.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::IntoResponse,
};
use http::header;
use proto::v1;
use tls_common::metrics;

use super::Api;
use crate::{
    dto::{
        DashboardConfig, Features, Overview, ProcessUsage, TaskManagerDetails, TaskManagerMetrics, TaskManagers,
        TlsReport,
    },
    problem::Problem,
    render,
};

pub(super) async fn overview(State(api): State<Api>) -> Result<Json<Overview>, Problem> {
    Ok(Json(render::overview(api.backend.overview().await?)))
}

pub(super) async fn config(State(api): State<Api>) -> Json<DashboardConfig> {
    Json(DashboardConfig {
        refresh_interval: u64::try_from(api.refresh_interval.as_millis()).unwrap_or(u64::MAX),
        timezone_name: "Coordinated Universal Time".to_owned(),
        timezone_offset: 0,
        flink_version: render::VERSION.to_owned(),
        flink_revision: render::COMMIT.to_owned(),
        // Uploading jars, changing the parallelism of a running job and a history server: not here.
        features: Features { web_submit: false, web_cancel: true, web_rescale: false, web_history: false },
    })
}

pub(super) async fn task_managers(State(api): State<Api>) -> Result<Json<TaskManagers>, Problem> {
    let taskmanagers = api.backend.task_managers().await?.into_iter().map(render::task_manager).collect();
    Ok(Json(TaskManagers { taskmanagers }))
}

pub(super) async fn task_manager(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskManagerDetails>, Problem> {
    Ok(Json(TaskManagerDetails {
        task_manager: render::task_manager(find_task_manager(&api, id).await?),
        allocated_slots: Vec::new(),
        metrics: TaskManagerMetrics::default(),
    }))
}

pub(super) async fn task_manager_usage(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ProcessUsage>, Problem> {
    let details = find_task_manager(&api, id).await?;
    let none_yet = || Problem::NotFound("The TaskManager has not sent a heartbeat yet".to_owned());
    render::usage(&details).map(Json).ok_or_else(none_yet)
}

async fn find_task_manager(
    api: &Api,
    id: Result<Path<String>, PathRejection>,
) -> Result<v1::TaskManagerDetails, Problem> {
    let Path(id) = id.map_err(|rejection| Problem::BadRequest(rejection.body_text()))?;
    let all = api.backend.task_managers().await?;
    let found = all.into_iter().find(|details| details.address.as_ref().is_some_and(|address| address.id == id));
    found.ok_or_else(|| Problem::NotFound(format!("TaskManager {id} not found")))
}

pub(super) async fn tls(State(api): State<Api>) -> Json<TlsReport> {
    Json(TlsReport { processes: api.backend.tls().await })
}

/// For Prometheus: the TLS of every process, with who it is as labels.
pub(super) async fn prometheus(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], render::prometheus(&api.backend.tls().await))
}
