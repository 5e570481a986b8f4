//! A task as the JobManager hands it over, parsed: what is missing or contradicts itself is refused here and nowhere
//! else.

use proto::blob::Digest;
use proto::frame::ChannelId;
use proto::ids::{AttemptId, InvalidId, JobId, TaskManagerId};
use proto::v1;

use crate::shuffle::{ChannelSpec, Peer};

/// A task to run.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub job: JobId,
    pub attempt: AttemptId,
    pub vertex: usize,
    pub subtask: usize,
    /// `name (1/2)`, for the log.
    pub name: String,
    pub slot: u32,
    pub script: Script,
    /// What the plan must come out as.
    pub fingerprint: String,
    /// Per edge into the vertex, one channel per upstream subtask.
    pub inputs: Vec<Vec<ChannelSpec>>,
    /// Per edge out of the vertex, one channel per downstream subtask.
    pub outputs: Vec<Vec<ChannelSpec>>,
}

/// What to plan, and where to get it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Script {
    pub digest: Digest,
    pub parallelism: usize,
    pub blob_host: String,
    pub blob_port: u16,
}

/// The JobManager's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDeployment {
    #[error(transparent)]
    Id(#[from] InvalidId),
    #[error("the deployment has no valid {0}")]
    Field(&'static str),
}

impl Deployment {
    /// `own` is the TaskManager that parses: channels to it stay inside.
    pub fn parse(message: v1::TaskDeployment, own: &TaskManagerId) -> Result<Self, InvalidDeployment> {
        let channels = |edges: Vec<v1::EdgeDeployment>| {
            let specs =
                |edge: v1::EdgeDeployment| edge.channels.into_iter().map(|channel| spec(channel, own)).collect();
            edges.into_iter().map(specs).collect::<Result<_, InvalidDeployment>>()
        };
        Ok(Self {
            job: message.job_id.parse()?,
            attempt: message.attempt_id.parse()?,
            vertex: message.vertex as usize,
            subtask: message.subtask as usize,
            name: message.name,
            slot: message.slot,
            script: Script {
                digest: message.sql_sha256.parse().map_err(|_| InvalidDeployment::Field("sql_sha256"))?,
                parallelism: message.parallelism as usize,
                blob_host: message.blob_host,
                blob_port: port(message.blob_port).ok_or(InvalidDeployment::Field("blob_port"))?,
            },
            fingerprint: message.fingerprint,
            inputs: channels(message.inputs)?,
            outputs: channels(message.outputs)?,
        })
    }
}

fn spec(channel: v1::ChannelDeployment, own: &TaskManagerId) -> Result<ChannelSpec, InvalidDeployment> {
    let id: [u8; 16] = channel.channel_id.try_into().map_err(|_| InvalidDeployment::Field("channel_id"))?;
    let address = channel.peer.ok_or(InvalidDeployment::Field("peer"))?;
    let peer: TaskManagerId = address.id.parse()?;
    let peer = if peer == *own {
        Peer::Local
    } else {
        let data_port = port(address.data_port).ok_or(InvalidDeployment::Field("data_port"))?;
        Peer::Remote { id: peer, host: address.host, data_port }
    };
    Ok(ChannelSpec { id: ChannelId::from_bytes(id), peer })
}

fn port(port: u32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn message() -> v1::TaskDeployment {
        let channel = |peer: &str| v1::ChannelDeployment {
            channel_id: vec![1; 16],
            peer: Some(v1::TaskManagerAddress {
                id: peer.to_owned(),
                host: "host".to_owned(),
                rpc_port: 1,
                data_port: 2,
            }),
        };
        v1::TaskDeployment {
            job_id: "0".repeat(32),
            attempt_id: "1".repeat(32),
            sql_sha256: "2".repeat(64),
            blob_port: 6124,
            inputs: vec![v1::EdgeDeployment { edge: 0, channels: vec![channel("here"), channel("there")] }],
            ..v1::TaskDeployment::default()
        }
    }

    #[test]
    fn channels_to_oneself_stay_inside() {
        let parsed = Deployment::parse(message(), &"here".parse().unwrap()).unwrap();
        assert!(matches!(parsed.inputs[0][0].peer, Peer::Local));
        assert!(matches!(&parsed.inputs[0][1].peer, Peer::Remote { data_port: 2, .. }));
        assert!(parsed.outputs.is_empty());
    }

    #[test]
    fn what_is_missing_is_named() {
        let own = "here".parse().unwrap();
        let refused = |spoil: fn(&mut v1::TaskDeployment)| {
            let mut message = message();
            spoil(&mut message);
            Deployment::parse(message, &own).unwrap_err()
        };
        assert!(matches!(refused(|message| message.attempt_id.clear()), InvalidDeployment::Id(_)));
        assert_eq!(refused(|message| message.sql_sha256.clear()), InvalidDeployment::Field("sql_sha256"));
        assert_eq!(refused(|message| message.blob_port = 70_000), InvalidDeployment::Field("blob_port"));
        let no_id = |message: &mut v1::TaskDeployment| message.inputs[0].channels[0].channel_id.clear();
        assert_eq!(refused(no_id), InvalidDeployment::Field("channel_id"));
        assert_eq!(refused(|message| message.inputs[0].channels[1].peer = None), InvalidDeployment::Field("peer"));
    }
}
