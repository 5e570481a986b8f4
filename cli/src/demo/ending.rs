//! What the cluster says about the job once it has ended.

use engine::batch::Comparison;
use rest_gateway::dto::{JobDetails, Metric, Vertex};

use super::incidents::Incidents;
use super::report::JobReport;
use crate::rest::{RestClient, RestError};

/// The job's part of the report. What cannot be learnt is an incident.
pub(super) async fn job_report(
    client: &RestClient,
    id: &str,
    details: Option<JobDetails>,
    rows: Comparison,
    incidents: &mut Incidents,
) -> JobReport {
    let Some(details) = details else {
        return JobReport {
            state: "UNKNOWN".to_owned(),
            cause: None,
            duration_ms: 0,
            rows_in: 0,
            late_rows: None,
            rows,
        };
    };
    let mut learn = |what: &str, error: &RestError| incidents.note(format!("{what} cannot be learnt: {error}"));
    let cause = match details.state.as_str() {
        "FINISHED" => None,
        _ => client.cause(id).await.unwrap_or_else(|error| {
            learn("the job's failure", &error);
            None
        }),
    };
    let late_rows = late_rows(client, id, &details.vertices).await;
    let late_rows = late_rows.inspect_err(|error| learn("the number of late rows", error)).ok();
    JobReport {
        rows_in: delivered(&details),
        state: details.state,
        cause,
        duration_ms: details.duration,
        late_rows,
        rows,
    }
}

/// Rows that the job's source has delivered.
pub(super) fn delivered(details: &JobDetails) -> u64 {
    details.vertices.first().map_or(0, |source| source.metrics.write_records)
}

/// Rows that came after their window had been given out, over all subtasks.
async fn late_rows(client: &RestClient, id: &str, vertices: &[Vertex]) -> Result<u64, RestError> {
    let mut sum = 0;
    for vertex in vertices {
        let names: Vec<_> = (0..vertex.parallelism).map(|subtask| format!("{subtask}.{LATE}")).collect();
        let path = format!("/v1/jobs/{id}/vertices/{}/metrics?get={}", vertex.id, names.join(","));
        let metrics: Vec<Metric> = client.get(&path).await?;
        sum += metrics.iter().filter_map(|metric| metric.value.as_ref()?.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(sum)
}

/// As Flink names it.
const LATE: &str = "numLateRecordsDropped";
