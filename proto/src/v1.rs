//! Generated from `proto/tidemill/v1/*.proto`, plus the names under which REST and the log show the states.
#![allow(clippy::all, unreachable_pub, missing_docs, reason = "generated code")]

tonic::include_proto!("tidemill.v1");

impl JobState {
    /// Flink's name of the state, e.g. `RUNNING`.
    pub fn name(self) -> &'static str {
        self.as_str_name().trim_start_matches("JOB_STATE_")
    }

    /// Whether nothing follows this state.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Finished | JobState::Canceled | JobState::Failed)
    }
}

impl TaskState {
    /// Flink's name of the state, e.g. `DEPLOYING`.
    pub fn name(self) -> &'static str {
        self.as_str_name().trim_start_matches("TASK_STATE_")
    }

    /// Whether nothing follows this state.
    pub fn is_terminal(self) -> bool {
        matches!(self, TaskState::Finished | TaskState::Canceled | TaskState::Failed)
    }
}
