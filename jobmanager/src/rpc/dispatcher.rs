//! `Dispatcher`: the REST gateway's view of the cluster.

use blob_server::BlobError;
use proto::v1;
use proto::v1::dispatcher_server::Dispatcher;
use tls_common::Endpoint;
use tonic::{Request, Response, Status};

use super::{id, views};
use crate::cluster::CancelError;
use crate::dispatcher::jobs::Refused;
use crate::dispatcher::{self, SubmitError};
use crate::driver::Driver;

/// See the module's documentation.
#[derive(Debug)]
pub struct Service {
    driver: Driver,
    dispatcher: dispatcher::Dispatcher,
    /// `host:port`, for people.
    id: String,
    /// Of this process, for [`Dispatcher::tls_status`].
    endpoints: Vec<Endpoint>,
}

impl Service {
    pub fn new(driver: Driver, dispatcher: dispatcher::Dispatcher, id: String, endpoints: Vec<Endpoint>) -> Self {
        Self { driver, dispatcher, id, endpoints }
    }
}

#[tonic::async_trait]
impl Dispatcher for Service {
    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let request = request.into_inner();
        let submission = dispatcher::Submission {
            job: id(&request.job_id)?,
            name: request.name,
            script: request
                .sql_sha256
                .parse()
                .map_err(|_| Status::invalid_argument("sql_sha256 is not 64 hexadecimal digits"))?,
            parallelism: request.parallelism.map(|parallelism| parallelism as usize),
        };
        self.dispatcher.submit(submission).await?;
        Ok(Response::new(v1::SubmitJobResponse {}))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let job = id(&request.into_inner().job_id)?;
        self.driver.apply(|cluster, now| cluster.cancel(now, job)).map_err(|error| match error {
            CancelError::Unknown(_) => Status::not_found(error.to_string()),
            CancelError::Ended { .. } => Status::failed_precondition(error.to_string()),
        })?;
        Ok(Response::new(v1::CancelJobResponse {}))
    }

    async fn list_jobs(&self, _: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let jobs = self.driver.read(|cluster, now| {
            let jobs = cluster.jobs().newest_first();
            jobs.into_iter().map(|(id, job)| views::summary(id, job, now)).collect()
        });
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn describe_job(
        &self,
        request: Request<v1::DescribeJobRequest>,
    ) -> Result<Response<v1::DescribeJobResponse>, Status> {
        let job = id(&request.into_inner().job_id)?;
        let details =
            self.driver.read(|cluster, now| cluster.jobs().get(job).map(|found| views::details(job, found, now)));
        details.map(Response::new).ok_or_else(|| Status::not_found(format!("Job {job} not found")))
    }

    async fn overview(&self, _: Request<v1::OverviewRequest>) -> Result<Response<v1::OverviewResponse>, Status> {
        Ok(Response::new(self.driver.read(|cluster, _| views::overview(cluster))))
    }

    async fn list_task_managers(
        &self,
        _: Request<v1::ListTaskManagersRequest>,
    ) -> Result<Response<v1::ListTaskManagersResponse>, Status> {
        let task_managers = self.driver.read(|cluster, _| views::task_managers(cluster));
        Ok(Response::new(v1::ListTaskManagersResponse { task_managers }))
    }

    async fn tls_status(&self, _: Request<v1::TlsStatusRequest>) -> Result<Response<v1::TlsStatusResponse>, Status> {
        let endpoints: Vec<_> = self.endpoints.iter().map(Endpoint::status).collect();
        let own = v1::ProcessTls {
            process: "jobmanager".to_owned(),
            id: self.id.clone(),
            endpoints_json: serde_json::to_string(&endpoints).map_err(|error| Status::internal(error.to_string()))?,
            error: String::new(),
        };
        let mut processes = vec![own];
        processes.extend(self.driver.read(|cluster, _| views::task_manager_tls(cluster)));
        Ok(Response::new(v1::TlsStatusResponse { processes }))
    }
}

impl From<SubmitError> for Status {
    fn from(error: SubmitError) -> Self {
        let text = error.to_string();
        match error {
            SubmitError::ScriptMissing(_) => Status::not_found(text),
            SubmitError::Blob(BlobError::Connect(_) | BlobError::Lost(_)) => Status::unavailable(text),
            // Another attempt would not change it.
            SubmitError::Blob(_) => Status::internal(text),
            SubmitError::NotText | SubmitError::Script(_) | SubmitError::Plan(_) | SubmitError::NameTooLong => {
                Status::invalid_argument(text)
            }
            SubmitError::Refused(Refused::OtherScript(_)) => Status::already_exists(text),
            SubmitError::Refused(Refused::TooMany(_)) | SubmitError::PlanTimeout => Status::resource_exhausted(text),
        }
    }
}
