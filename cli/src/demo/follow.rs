//! Following the job to its end, which must come in time.

use std::time::Duration;

use rest_gateway::dto::JobDetails;
use tokio::time::{Instant, sleep};

use super::incidents::Incidents;
use crate::rest::{RestClient, RestError, is_final};

/// Follows the job until it has ended. One that has not after `in_time` is canceled. What was last heard of it, if
/// anything.
pub(super) async fn follow(
    client: &RestClient,
    id: &str,
    in_time: Duration,
    mut show: impl FnMut(&JobDetails),
    incidents: &mut Incidents,
) -> Option<JobDetails> {
    let path = format!("/v1/jobs/{id}");
    let ask = async || client.get(&path).await;
    match until_ended(ask, Instant::now() + in_time, &mut show, incidents).await {
        Followed::Ended(details) => Some(details),
        Followed::NotInTime(last) => {
            incidents.note(format!("the job did not end in time, which was {in_time:?}"));
            if let Err(error) = client.cancel(id).await {
                incidents.note(format!("the job cannot be canceled: {error}"));
            }
            match until_ended(ask, Instant::now() + CANCEL_PATIENCE, &mut show, incidents).await {
                Followed::Ended(details) => Some(details),
                Followed::NotInTime(later) => later.or(last),
            }
        }
    }
}

/// How it went, with what was last heard.
#[derive(Debug)]
enum Followed {
    Ended(JobDetails),
    NotInTime(Option<JobDetails>),
}

/// Asks until the job has ended or the deadline is there. A request that fails is an incident: rotations must not be
/// felt here either. One under way is not given up, which would count as a failed handshake if it were in the middle of
/// that; it has a limit of its own.
async fn until_ended(
    mut ask: impl AsyncFnMut() -> Result<JobDetails, RestError>,
    deadline: Instant,
    show: &mut impl FnMut(&JobDetails),
    incidents: &mut Incidents,
) -> Followed {
    let mut last = None;
    loop {
        match ask().await {
            Ok(details) if is_final(&details.state) => return Followed::Ended(details),
            Ok(details) => {
                show(&details);
                last = Some(details);
            }
            Err(error) => incidents.note(format!("a request failed: {error}")),
        }
        if Instant::now() >= deadline {
            return Followed::NotInTime(last);
        }
        sleep(JOB_POLL).await;
    }
}

const JOB_POLL: Duration = Duration::from_millis(250);
/// From the request to cancel the job to its end.
const CANCEL_PATIENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn details(state: &str) -> JobDetails {
        serde_json::from_value(json!({
            "jid": "", "application-id": "", "name": "", "isStoppable": false, "state": state, "job-type": "",
            "schedulerType": "", "start-time": 0, "end-time": -1, "duration": 0, "maxParallelism": -1, "now": 0,
            "timestamps": {}, "vertices": [], "status-counts": {}, "pending-operators": 0,
            "plan": { "jid": "", "name": "", "type": "", "nodes": [] }
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_does_not_end_is_left_at_the_deadline() {
        let (begun, limit) = (Instant::now(), Duration::from_secs(70));
        let (mut incidents, mut shown) = (Incidents::default(), 0);
        let mut show = |_: &JobDetails| shown += 1;
        let followed = until_ended(async || Ok(details("RUNNING")), begun + limit, &mut show, &mut incidents).await;
        assert!(matches!(followed, Followed::NotInTime(Some(last)) if last.state == "RUNNING"));
        assert!(begun.elapsed() < limit + JOB_POLL && shown > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_never_answers_is_left_after_the_request_that_the_deadline_finds_under_way() {
        let (begun, limit, request) = (Instant::now(), Duration::from_secs(70), Duration::from_secs(30));
        let (mut incidents, mut ended) = (Incidents::default(), 0);
        let ask = async || {
            sleep(request).await;
            ended += 1;
            Err(RestError::Timeout)
        };
        let followed = until_ended(ask, begun + limit, &mut |_| {}, &mut incidents).await;
        assert!(matches!(followed, Followed::NotInTime(None)));
        assert_eq!(ended, 3);
        assert!(begun.elapsed() < limit + request);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_request_is_told_and_the_next_one_made() {
        let (mut incidents, mut asked) = (Incidents::default(), 0);
        let ask = async || {
            asked += 1;
            if asked == 1 { Err(RestError::Timeout) } else { Ok(details("FINISHED")) }
        };
        let deadline = Instant::now() + Duration::from_secs(70);
        let followed = until_ended(ask, deadline, &mut |_| {}, &mut incidents).await;
        assert!(matches!(followed, Followed::Ended(_)));
        assert_eq!(incidents.into_words().len(), 1);
    }
}
