//! `ResourceManager`: TaskManagers come, live and leave.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::ids::{AttemptId, InstanceId, TaskManagerId};
use proto::v1;
use proto::v1::resource_manager_server::ResourceManager;
use tonic::{Request, Response, Status};

use super::id;
use crate::cluster::HeartbeatAnswer;
use crate::driver::Driver;
use crate::resource_manager::registry::{Address, Introduction, Report};

/// Most slots one TaskManager may have.
const SLOTS_MAX: u32 = 1_024;

/// Longest host name, incarnation or reason, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// See the module's documentation.
#[derive(Debug)]
pub struct Service {
    driver: Driver,
    heartbeat_interval: Duration,
}

impl Service {
    pub fn new(driver: Driver, heartbeat_interval: Duration) -> Self {
        Self { driver, heartbeat_interval }
    }
}

#[tonic::async_trait]
impl ResourceManager for Service {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterResponse>, Status> {
        let introduction = introduction(request.into_inner())?;
        let fresh = InstanceId::random();
        let instance = self.driver.apply(|cluster, now| cluster.register(now, introduction, fresh));
        let heartbeat_interval_ms = u64::try_from(self.heartbeat_interval.as_millis()).unwrap_or(u64::MAX);
        Ok(Response::new(v1::RegisterResponse { instance_id: instance.to_string(), heartbeat_interval_ms }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let manager: TaskManagerId = id(&request.task_manager_id)?;
        let instance = id(&request.instance_id)?;
        let tasks = request.tasks.into_iter().map(|task| Ok((id(&task.attempt_id)?, task.metrics.unwrap_or_default())));
        let tasks = tasks.collect::<Result<BTreeMap<AttemptId, _>, Status>>()?;
        let report =
            Report { endpoints_json: request.endpoints_json, shuffle_json: request.shuffle_json, usage: request.usage };
        let answer = self.driver.apply(|cluster, now| cluster.heartbeat(now, &manager, instance, report, tasks));
        Ok(Response::new(match answer {
            HeartbeatAnswer::Unknown => v1::HeartbeatResponse { known: false, cancel_attempt_ids: Vec::new() },
            HeartbeatAnswer::Known { unwanted } => {
                let cancel_attempt_ids = unwanted.iter().map(AttemptId::to_string).collect();
                v1::HeartbeatResponse { known: true, cancel_attempt_ids }
            }
        }))
    }

    async fn unregister(
        &self,
        request: Request<v1::UnregisterRequest>,
    ) -> Result<Response<v1::UnregisterResponse>, Status> {
        let request = request.into_inner();
        let (manager, instance) = (id(&request.task_manager_id)?, id(&request.instance_id)?);
        let reason = text("reason", request.reason)?;
        self.driver.apply(|cluster, now| cluster.unregister(now, &manager, instance, &reason));
        Ok(Response::new(v1::UnregisterResponse {}))
    }
}

fn introduction(request: v1::RegisterRequest) -> Result<Introduction, Status> {
    let address = request.address.ok_or_else(|| Status::invalid_argument("the address is missing"))?;
    if address.host.is_empty() {
        return Err(Status::invalid_argument("the host is missing"));
    }
    if !(1..=SLOTS_MAX).contains(&request.slots) {
        return Err(Status::invalid_argument(format!("{} slots: expected 1 to {SLOTS_MAX}", request.slots)));
    }
    Ok(Introduction {
        address: Address {
            id: id(&address.id)?,
            host: text("host", address.host)?,
            rpc_port: port(address.rpc_port)?,
            data_port: port(address.data_port)?,
        },
        incarnation: text("incarnation", request.incarnation)?,
        slots: request.slots,
        hardware: request.hardware.unwrap_or_default(),
    })
}

fn port(port: u32) -> Result<u16, Status> {
    match u16::try_from(port) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(Status::invalid_argument(format!("not a port: {port}"))),
    }
}

fn text(what: &str, text: String) -> Result<String, Status> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Status::invalid_argument(format!("{what} is longer than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::RegisterRequest {
        let address =
            v1::TaskManagerAddress { id: "tm".to_owned(), host: "host".to_owned(), rpc_port: 1, data_port: 65_535 };
        v1::RegisterRequest { address: Some(address), incarnation: "x".to_owned(), slots: 2, hardware: None }
    }

    #[test]
    fn an_introduction_has_an_address_and_a_sensible_number_of_slots() {
        assert!(introduction(request()).is_ok());
        let refused = |spoil: fn(&mut v1::RegisterRequest)| {
            let mut request = request();
            spoil(&mut request);
            introduction(request).is_err()
        };
        assert!(refused(|request| request.address = None));
        assert!(refused(|request| request.slots = 0));
        assert!(refused(|request| request.slots = SLOTS_MAX + 1));
        assert!(refused(|request| request.incarnation = "x".repeat(TEXT_BYTES_MAX + 1)));
        for spoil in [
            (|address| address.id = "a b".to_owned()) as fn(&mut v1::TaskManagerAddress),
            |address| address.host.clear(),
            |address| address.rpc_port = 0,
            |address| address.data_port = 65_536,
        ] {
            let mut request = request();
            request.address.as_mut().into_iter().for_each(spoil);
            assert!(introduction(request).is_err());
        }
    }
}
