//! The REST API against a cluster that is not there: statuses, bodies, and that Flink's shapes are Flink's.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use proto::{
    ids::JobId,
    v1::{
        DescribeJobResponse, EdgeDetails, Failure, Hardware, JobState, JobStateTime, JobSummary, OverviewResponse,
        ProcessUsage, SubtaskDetails, TaskManagerAddress, TaskManagerDetails, TaskMetrics, TaskState, TaskStateCount,
        VertexDetails,
    },
};
use rest_gateway::{
    backend::Backend,
    dto::{ProcessTls, SubmitSql},
    problem::Problem,
    routes::{ApiOptions, SCRIPT_BYTES_MAX, router},
};
use serde_json::{Value, json};
use tls_common::{ConnectionPolicy, Endpoint, HandshakeLimits};
use tower::ServiceExt;

const JOB: &str = "8bec0c81e2db56e61a6893f93f338867";
const NO_JOB: &str = "00000000000000000000000000000000";

/// Two TaskManagers and one job of two vertices, and a note of what it was told to do.
#[derive(Debug, Default)]
struct Fake {
    submitted: Mutex<Vec<SubmitSql>>,
    cancelled: Mutex<Vec<JobId>>,
}

fn summary() -> JobSummary {
    JobSummary {
        job_id: JOB.to_owned(),
        name: "flights".to_owned(),
        state: JobState::Running.into(),
        start_time_ms: 1000,
        end_time_ms: None,
        last_modification_ms: 1200,
        tasks: vec![
            TaskStateCount { state: TaskState::Running.into(), count: 3 },
            TaskStateCount { state: TaskState::Finished.into(), count: 1 },
        ],
        now_ms: 6000,
    }
}

fn vertex(id: &str, operators: &[&str]) -> VertexDetails {
    let metrics = TaskMetrics { records_in: 5, bytes_out: 7, late_records: 3, ..TaskMetrics::default() };
    let subtask = |subtask, metrics| SubtaskDetails {
        subtask,
        attempt_id: JOB.to_owned(),
        state: TaskState::Running.into(),
        task_manager_id: "localhost:1-a".to_owned(),
        host: "localhost".to_owned(),
        start_time_ms: Some(1100),
        end_time_ms: None,
        metrics,
    };
    VertexDetails {
        id: id.to_owned(),
        name: operators.join(" -> "),
        parallelism: 2,
        state: TaskState::Running.into(),
        start_time_ms: Some(1100),
        end_time_ms: None,
        metrics: Some(metrics),
        subtasks: vec![subtask(0, Some(metrics)), subtask(1, None)],
        operators: operators.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[async_trait]
impl Backend for Fake {
    async fn overview(&self) -> Result<OverviewResponse, Problem> {
        Ok(OverviewResponse { task_managers: 2, slots_total: 4, jobs_running: 1, ..OverviewResponse::default() })
    }

    async fn jobs(&self) -> Result<Vec<JobSummary>, Problem> {
        Ok(vec![summary()])
    }

    async fn job(&self, id: JobId) -> Result<DescribeJobResponse, Problem> {
        if id.to_string() != JOB {
            return Err(Problem::NotFound(format!("Job {id} not found")));
        }
        Ok(DescribeJobResponse {
            job: Some(summary()),
            timestamps: vec![JobStateTime { state: JobState::Created.into(), time_ms: 1000 }],
            vertices: vec![vertex("aa", &["Source: flights", "Watermark"]), vertex("bb", &["Window", "Sink: out"])],
            edges: vec![EdgeDetails { from: "aa".to_owned(), to: "bb".to_owned(), ship_strategy: "HASH".to_owned() }],
            failure: Some(Failure {
                time_ms: 5000,
                cause: "TaskManager localhost:1-a is lost\nno heartbeat for 10 s".to_owned(),
                ..Failure::default()
            }),
            ..DescribeJobResponse::default()
        })
    }

    async fn task_managers(&self) -> Result<Vec<TaskManagerDetails>, Problem> {
        let task_manager = |id: &str| TaskManagerDetails {
            address: Some(TaskManagerAddress {
                id: id.to_owned(),
                host: "localhost".to_owned(),
                rpc_port: 41,
                data_port: 42,
            }),
            slots: 2,
            free_slots: 1,
            assigned_tasks: 2,
            last_heartbeat_ms: 5900,
            hardware: Some(Hardware { cpu_cores: 2, physical_memory_bytes: 1 << 34, free_memory_bytes: 1 << 33 }),
            shuffle_json: r#"{"peers":{}}"#.to_owned(),
            usage: Some(ProcessUsage { time_ms: 5890, cpu_ms: 70, resident_bytes: 1 << 25, ..ProcessUsage::default() }),
            metrics: Some(TaskMetrics { records_in: 3, bytes_in: 300, ..TaskMetrics::default() }),
        };
        Ok(vec![task_manager("localhost:41-a"), task_manager("localhost:41-b")])
    }

    async fn submit(&self, job: SubmitSql) -> Result<JobId, Problem> {
        if job.sql.contains("hang") {
            std::future::pending().await
        }
        self.submitted.lock().unwrap().push(job);
        Ok(JOB.parse().unwrap())
    }

    async fn cancel(&self, id: JobId) -> Result<(), Problem> {
        match id.to_string().as_str() {
            JOB => self.cancelled.lock().unwrap().push(id),
            NO_JOB => return Err(Problem::NotFound(format!("Job {id} not found"))),
            _ => return Err(Problem::Unavailable("The JobManager at here:1 does not answer".to_owned())),
        }
        Ok(())
    }

    async fn tls(&self) -> Vec<ProcessTls> {
        let endpoint = Endpoint::new("rest", None, ConnectionPolicy::default(), HandshakeLimits::default());
        let own = ProcessTls {
            process: "rest-gateway".to_owned(),
            id: "localhost:8081".to_owned(),
            endpoints: vec![endpoint.status()],
            error: None,
        };
        let error = Some("does not answer".to_owned());
        let blobs =
            ProcessTls { process: "blob-server".to_owned(), id: "localhost:6124".to_owned(), endpoints: vec![], error };
        vec![own, blobs]
    }
}

async fn send(fake: &Arc<Fake>, request: Request<Body>) -> (StatusCode, Value) {
    let options = ApiOptions {
        body_bytes_max: 100 << 20,
        request_timeout: Duration::from_secs(60),
        refresh_interval: Duration::from_secs(3),
    };
    let response = router(Arc::clone(fake) as Arc<dyn Backend>, &options).oneshot(request).await.unwrap();
    assert!(!response.headers().contains_key("access-control-allow-origin"));
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/json", "{status}");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

/// As Flink's CLI does it: JSON, and a body of `{}` whatever the method.
async fn flink(method: Method, path: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json; charset=UTF-8");
    send(&Arc::default(), request.body(Body::from("{}")).unwrap()).await
}

async fn get(path: &str) -> Value {
    let (status, body) = flink(Method::GET, path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    assert_eq!(flink(Method::GET, &format!("/v1{path}")).await, (status, body.clone()), "{path}");
    body
}

async fn post_sql(fake: &Arc<Fake>, content_type: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post("/v1/jobs/sql").header("content-type", content_type);
    send(fake, request.body(body.into()).unwrap()).await
}

fn error(body: &Value) -> &str {
    let [error] = body["errors"].as_array().unwrap().as_slice() else { panic!("{body}") };
    assert_eq!(body.as_object().unwrap().len(), 1);
    error.as_str().unwrap()
}

/// The same keys at every depth. Arrays are compared by their first element; a value may be `null` where it has no
/// meaning here.
fn assert_same_keys(at: &str, ours: &Value, flinks: &Value) {
    match (ours, flinks) {
        (Value::Object(ours), Value::Object(flinks)) => {
            let mut keys: [Vec<_>; 2] = [ours.keys().collect(), flinks.keys().collect()];
            keys.iter_mut().for_each(|keys| keys.sort());
            assert_eq!(keys[0], keys[1], "{at}");
            for (key, value) in ours {
                assert_same_keys(&format!("{at}/{key}"), value, &flinks[key]);
            }
        }
        (Value::Array(ours), Value::Array(flinks)) => {
            if let (Some(ours), Some(flinks)) = (ours.first(), flinks.first()) {
                assert_same_keys(&format!("{at}/0"), ours, flinks);
            }
        }
        (Value::Null, flinks) => assert!(flinks.is_number(), "{at}"),
        (ours, flinks) => {
            assert_eq!(std::mem::discriminant(ours), std::mem::discriminant(flinks), "{at}");
            assert_eq!(ours.is_f64(), flinks.is_f64(), "{at}");
        }
    }
}

macro_rules! sample {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!("fixtures/", $name, ".json"))).unwrap()
    };
}

#[tokio::test]
async fn shapes_are_flinks() {
    assert_same_keys("overview", &get("/overview").await, &sample!("overview"));
    assert_same_keys("config", &get("/config").await, &sample!("config"));
    assert_same_keys("taskmanagers", &get("/taskmanagers").await, &sample!("taskmanagers"));
    assert_same_keys("taskmanager", &get("/taskmanagers/localhost:41-a").await, &sample!("taskmanager"));
    assert_same_keys("jobs", &get("/jobs").await, &sample!("jobs"));
    assert_same_keys("jobs-overview", &get("/jobs/overview").await, &sample!("jobs-overview"));
    assert_same_keys("job-status", &get(&format!("/jobs/{JOB}/status")).await, &sample!("job-status"));
    assert_same_keys("job-exceptions", &get(&format!("/jobs/{JOB}/exceptions")).await, &sample!("job-exceptions"));

    // Flink lists a plan from the sink up, we from the source down: the source is the one without inputs.
    let mut job = get(&format!("/jobs/{JOB}")).await;
    job["plan"]["nodes"].as_array_mut().unwrap().reverse();
    assert_same_keys("job", &job, &sample!("job"));
    let nodes = job["plan"]["nodes"].as_array().unwrap();
    assert_same_keys("job/plan/source", &nodes[1], &sample!("job")["plan"]["nodes"][1]);
    assert_eq!(nodes[0]["inputs"][0]["id"], "aa");
    assert_eq!(nodes[0]["inputs"][0]["ship_strategy"], "HASH");
}

#[tokio::test]
async fn values_are_the_clusters() {
    let overview = get("/overview").await;
    assert_eq!(overview["taskmanagers"], 2);
    assert_eq!(overview["flink-version"], env!("CARGO_PKG_VERSION"));

    let jobs = get("/jobs/overview").await;
    let job = &jobs["jobs"][0];
    assert_eq!((&job["jid"], &job["state"]), (&json!(JOB), &json!("RUNNING")));
    assert_eq!((&job["start-time"], &job["end-time"], &job["duration"]), (&json!(1000), &json!(-1), &json!(5000)));
    assert_eq!((&job["tasks"]["running"], &job["tasks"]["finished"]), (&json!(3), &json!(1)));
    assert_eq!((&job["tasks"]["failed"], &job["tasks"]["total"]), (&json!(0), &json!(4)));

    let job = get(&format!("/jobs/{JOB}")).await;
    assert_eq!((&job["timestamps"]["CREATED"], &job["timestamps"]["FAILED"]), (&json!(1000), &json!(0)));
    assert_eq!(job["status-counts"]["RUNNING"], 2);
    let vertex = &job["vertices"][0];
    assert_eq!((&vertex["tasks"]["RUNNING"], &vertex["duration"]), (&json!(2), &json!(4900)));
    assert_eq!((&vertex["metrics"]["read-records"], &vertex["metrics"]["write-bytes"]), (&json!(5), &json!(7)));
    assert_eq!(vertex["metrics"]["read-records-complete"], false, "one subtask has not reported");
    assert_eq!(job["plan"]["nodes"][0]["description"], "Source: flights<br/>+- Watermark<br/>");

    let exceptions = get(&format!("/jobs/{JOB}/exceptions")).await;
    let entry = &exceptions["exceptionHistory"]["entries"][0];
    assert_eq!(entry["exceptionName"], "TaskManager localhost:1-a is lost");
    assert_eq!(entry["stacktrace"], "TaskManager localhost:1-a is lost\nno heartbeat for 10 s");
    assert_eq!((&entry["timestamp"], &entry["taskName"]), (&json!(5000), &Value::Null));

    let task_manager = get("/taskmanagers/localhost:41-b").await;
    assert_eq!(task_manager["id"], "localhost:41-b");
    assert_eq!((&task_manager["dataPort"], &task_manager["jmxPort"]), (&json!(42), &json!(-1)));
    assert_eq!(task_manager["freeResource"]["cpuCores"], 1.0);
    let usage = get("/taskmanagers/localhost:41-b/usage").await;
    assert_eq!(
        (&usage["time"], &usage["cpuMillis"], &usage["residentBytes"]),
        (&json!(5890), &json!(70), &json!(1 << 25))
    );
    assert_eq!(
        (&usage["readRecords"], &usage["readBytes"], &usage["shuffle"]),
        (&json!(3), &json!(300), &json!({"peers": {}}))
    );
}

#[tokio::test]
async fn the_figures_of_a_vertex_have_flinks_names() {
    let path = |rest: &str| format!("/jobs/{JOB}/vertices/aa/{rest}");
    let names = get(&path("metrics")).await;
    assert!(names.as_array().unwrap().contains(&json!({"id": "0.numLateRecordsDropped"})), "{names}");
    let values = get(&path("metrics?get=0.numRecordsIn,0.numLateRecordsDropped,7.numRecordsIn,x")).await;
    assert_same_keys("metrics", &values, &sample!("vertex-metrics-get"));
    let expected = json!([{"id": "0.numRecordsIn", "value": "5"}, {"id": "0.numLateRecordsDropped", "value": "3"}]);
    assert_eq!(values, expected);
    // Nothing has come yet, as in the recorded answer.
    assert_eq!(get(&path("watermarks")).await, sample!("vertex-watermarks"));
    let (status, body) = flink(Method::GET, &format!("/jobs/{JOB}/vertices/cc/metrics")).await;
    assert_eq!((status, error(&body)), (StatusCode::NOT_FOUND, format!("Job {JOB} has no vertex cc").as_str()));
}

#[tokio::test]
async fn a_script_is_taken_as_text_or_as_json() {
    let fake = Arc::default();
    for content_type in ["text/plain", "text/plain; charset=utf-8", "application/x-www-form-urlencoded"] {
        let (status, body) = post_sql(&fake, content_type, "INSERT INTO a SELECT 'ü'").await;
        assert_eq!((status, &body["jobid"]), (StatusCode::ACCEPTED, &json!(JOB)));
        assert_eq!(body, json!({"jobid": JOB, "jobUrl": format!("/jobs/{JOB}")}));
    }
    let body = r#"{"sql": "SELECT 1", "name": "one", "parallelism": 2}"#;
    assert_eq!(post_sql(&fake, "application/json; charset=UTF-8", body).await.0, StatusCode::ACCEPTED);

    let submitted = fake.submitted.lock().unwrap();
    assert_eq!(submitted.len(), 4);
    assert_eq!((submitted[0].sql.as_str(), submitted[0].parallelism), ("INSERT INTO a SELECT 'ü'", None));
    assert_eq!((submitted[3].sql.as_str(), submitted[3].parallelism), ("SELECT 1", Some(2)));
    assert_eq!(submitted[3].name.as_deref(), Some("one"));
}

#[tokio::test]
async fn what_is_not_a_script_is_refused() {
    let fake = Arc::default();
    let json = "application/json";
    for (content_type, body, says) in [
        ("text/plain", &b""[..], "empty"),
        ("text/plain", b" \n\t", "empty"),
        ("text/plain", b"\xff\xfe", "UTF-8"),
        (json, b"{}", "missing field `sql`"),
        (json, b"SELECT 1", "expected value"),
        (json, br#"{"sql": "SELECT 1", "paralelism": 2}"#, "unknown field `paralelism`"),
        (json, br#"{"sql": "SELECT 1", "parallelism": 0}"#, "at least 1"),
        (json, br#"{"sql": "SELECT 1", "parallelism": -1}"#, "u32"),
    ] {
        let (status, body) = post_sql(&fake, content_type, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error(&body).contains(says), "{body}");
    }
    let (status, _) = post_sql(&fake, "text/plain", vec![b'-'; SCRIPT_BYTES_MAX]).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (status, body) = post_sql(&fake, "text/plain", vec![b'-'; SCRIPT_BYTES_MAX + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(error(&body).contains("1048576"), "{body}");
    assert_eq!(fake.submitted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_is_cancelled_as_flink_does_it() {
    for path in [format!("/jobs/{JOB}?mode=cancel"), format!("/v1/jobs/{JOB}")] {
        assert_eq!(flink(Method::PATCH, &path).await, (StatusCode::ACCEPTED, json!({})));
    }
    let (status, body) = flink(Method::PATCH, &format!("/jobs/{JOB}?mode=stop")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error(&body).contains("mode=cancel"), "{body}");
    let (status, body) = flink(Method::PATCH, &format!("/v1/jobs/{NO_JOB}?mode=cancel")).await;
    assert_eq!((status, error(&body)), (StatusCode::NOT_FOUND, format!("Job {NO_JOB} not found").as_str()));
    let (status, body) = flink(Method::PATCH, "/v1/jobs/ffffffffffffffffffffffffffffffff").await;
    assert_eq!((status, error(&body)), (StatusCode::SERVICE_UNAVAILABLE, "The JobManager at here:1 does not answer"));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_flinks_words() {
    let (status, body) = flink(Method::GET, "/v1/nosuch").await;
    assert_eq!((status, body), (StatusCode::NOT_FOUND, sample!("error-404-path")));
    let (status, body) = flink(Method::GET, &format!("/jobs/{NO_JOB}")).await;
    assert_eq!((status, error(&body)), (StatusCode::NOT_FOUND, format!("Job {NO_JOB} not found").as_str()));
    for path in ["/jobs/xyz", "/v1/jobs/xyz/status", "/jobs/%ff"] {
        let (status, body) = flink(Method::GET, path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {body}");
        error(&body);
    }
    let (status, body) = flink(Method::GET, "/jobs/xyz").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error(&body).contains(r#"Cannot resolve path parameter (jobid) from value "xyz""#), "{body}");
    let (status, body) = flink(Method::GET, "/taskmanagers/gone").await;
    assert_eq!((status, error(&body)), (StatusCode::NOT_FOUND, "TaskManager gone not found"));
    let (status, body) = flink(Method::DELETE, "/v1/overview").await;
    assert_eq!((status, error(&body)), (StatusCode::METHOD_NOT_ALLOWED, "DELETE is not allowed here"));
}

#[tokio::test]
async fn every_process_is_in_the_tls_report() {
    let report = get("/tls").await;
    let processes = report["processes"].as_array().unwrap();
    assert_eq!(processes[0]["process"], "rest-gateway");
    assert_eq!(processes[0]["endpoints"][0]["endpoint"], "rest");
    assert_eq!(processes[0].get("error"), None);
    assert_eq!(processes[1]["error"], "does not answer");
    assert_eq!(processes[1]["endpoints"], json!([]));
}

#[tokio::test]
async fn prometheus_gets_the_figures_of_every_process_and_who_is_missing() {
    let options = ApiOptions {
        body_bytes_max: 1,
        request_timeout: Duration::from_secs(60),
        refresh_interval: Duration::from_secs(3),
    };
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let response = router(Arc::new(Fake::default()), &options).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&body).unwrap();
    for line in [
        "# TYPE tidemill_process_up gauge",
        r#"tidemill_process_up{process="rest-gateway",id="localhost:8081"} 1"#,
        r#"tidemill_process_up{process="blob-server",id="localhost:6124"} 0"#,
        "# TYPE tls_handshakes_total counter",
        r#"tls_handshakes_total{process="rest-gateway",id="localhost:8081",endpoint="rest",result="full"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_gives_no_orders() {
    let fake = Arc::default();
    let request = |origin: &str, method: &str| {
        let request = Request::builder().method(method).uri(if method == "POST" { "/jobs/sql" } else { "/jobs" });
        let request = request.header("host", "localhost:8081").header("origin", origin);
        request.header("content-type", "text/plain").body(Body::from("SELECT 1")).unwrap()
    };
    for origin in ["https://evil.example", "http://localhost:9999", "null", ""] {
        assert_eq!(send(&fake, request(origin, "POST")).await.0, StatusCode::FORBIDDEN, "{origin}");
        assert_eq!(send(&fake, request(origin, "GET")).await.0, StatusCode::OK, "{origin}");
    }
    assert!(fake.submitted.lock().unwrap().is_empty());
    assert_eq!(send(&fake, request("https://localhost:8081", "POST")).await.0, StatusCode::ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_even_if_the_cluster_hangs() {
    let (status, body) = post_sql(&Arc::default(), "text/plain", "hang").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(error(&body).contains("60 s"), "{body}");
}
