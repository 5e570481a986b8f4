//! A service's life: exit codes and signals. Signals go to the whole process, so these tests run one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use config::{Configuration, bootstrap, options, tls};
use nix::sys::signal::{Signal, raise};
use std::ffi::OsString;
use std::fs;
use std::future::{self, Future};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn config_dir(yaml: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.yaml"), yaml).unwrap();
    directory
}

fn run<F, Fut>(directory: &Path, more: &[&str], service: F) -> ExitCode
where
    F: FnOnce(Configuration, CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), String>>,
{
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let args = ["--config-dir".into(), directory.as_os_str().to_owned()];
    let args = args.into_iter().chain(more.iter().map(OsString::from));
    bootstrap::run_with_args("test-service", args, service)
}

#[test]
fn sigterm_and_sigint_drain_and_exit_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = config_dir("rest.port: 1\n");
        let exit_code = run(directory.path(), &["-Drest.port=7"], |configuration, shutdown| async move {
            assert_eq!(configuration.get(&options::REST_PORT).unwrap(), 7);
            raise(signal).unwrap();
            shutdown.cancelled().await;
            Ok(())
        });
        assert_eq!(exit_code, ExitCode::SUCCESS, "{signal}");
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let directory = config_dir("");
    let exit_code = run(directory.path(), &[], |_, shutdown| async move {
        raise(Signal::SIGTERM).unwrap();
        shutdown.cancelled().await;
        raise(Signal::SIGTERM).unwrap();
        future::pending().await
    });
    assert_eq!(exit_code, ExitCode::FAILURE);
}

#[test]
fn sighup_reloads_instead_of_killing() {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory =
        config_dir("security.ssl:\n  internal.enabled: true\n  reload: true\n  reload.quiet-period: 1 ms\n");
    let identity = directory.path().join("identity.pem");
    fs::write(&identity, pair.signing_key.serialize_pem() + &pair.cert.pem()).unwrap();
    let store = |key: &str| format!("-Dsecurity.ssl.{key}={}", identity.display());
    let stores = [store("keystore"), store("truststore")];
    let exit_code = run(directory.path(), &[&stores[0], &stores[1]], |configuration, _| async move {
        let context = tls::internal_context(&configuration).await.unwrap().unwrap();
        let mut generations = context.subscribe();
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&identity, pair.signing_key.serialize_pem() + &pair.cert.pem()).unwrap();
        raise(Signal::SIGHUP).unwrap();
        generations.wait_for(|generation| *generation == 2).await.unwrap();
        Ok(())
    });
    assert_eq!(exit_code, ExitCode::SUCCESS);
}

#[test]
fn failures_exit_1_and_bad_arguments_64() {
    let never = |_, _| async { panic!("must not start") };
    let directory = config_dir("");
    assert_eq!(run(directory.path(), &[], |_, _| async { Err("port in use".to_owned()) }), ExitCode::FAILURE);
    assert_eq!(run(Path::new("/nowhere"), &[], never), ExitCode::FAILURE);
    assert_eq!(run(directory.path(), &["-Dsecurity.ssl.internal.enable=true"], never), ExitCode::FAILURE);
    assert_eq!(run(directory.path(), &["-Dlog.level=x=loud"], never), ExitCode::FAILURE);
    assert_eq!(run(directory.path(), &["--nonsense"], never), ExitCode::from(64));
    assert_eq!(run(directory.path(), &["--version"], never), ExitCode::SUCCESS);
}

#[test]
fn a_ready_file_of_an_earlier_run_is_gone_when_the_service_starts() {
    let directory = config_dir("");
    let ready = directory.path().join("ready.json");
    fs::write(&ready, "{}").unwrap();
    let option = format!("-Dprocess.ready-file={}", ready.display());
    let exit_code = run(directory.path(), &[&option], |configuration, _| async move {
        let path = configuration.get(&options::PROCESS_READY_FILE).unwrap();
        assert!(!path.exists());
        bootstrap::announce(&configuration, "test-service", &[]).map_err(|error| error.to_string())?;
        assert!(path.exists());
        Ok(())
    });
    assert_eq!(exit_code, ExitCode::SUCCESS);
}
