//! What servers are told, and what happens when they do not do it. Real ones are started in `bridge-python/tests`.

use super::*;

fn text(server: &DevServer) -> String {
    server.args(7000).join(" ")
}

#[test]
fn a_dev_server_is_told_everything() {
    let mut server = DevServer::new("/bin/temporal");
    let begin = "server start-dev --port 7000 --namespace default --ip 127.0.0.1 --log-format pretty --log-level \
                 warn --dynamic-config-value frontend.enableServerVersionCheck=false --dynamic-config-value \
                 frontend.enableUpdateWorkflowExecution=true --dynamic-config-value \
                 frontend.enableUpdateWorkflowExecutionAsyncAccepted=true";
    assert_eq!(text(&server), format!("{begin} --headless"));
    server.ui = true;
    assert_eq!(text(&server), format!("{begin} --ui-port 8000"));
    server.ui = false;
    server.ui_port = Some(5);
    server.database = Some("file".into());
    server.extra_args = vec!["-x".into(), "y".into()];
    assert_eq!(text(&server), format!("{begin} --db-filename file --ui-port 5 -x y"));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = DevServer::new("/nowhere").start().await.unwrap_err();
    assert_eq!(error.to_string(), "ephemeral server executable does not exist: /nowhere");
    let error = TestServer::new("/").start().await.unwrap_err();
    assert!(error.to_string().starts_with("failed to start ephemeral server: "), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_program_that_never_answers_is_killed_in_time() {
    let startup_timeout = Duration::from_millis(50);
    // The port is the first argument: the program sleeps for as many seconds.
    let server = TestServer { startup_timeout, ..TestServer::new("/bin/sleep") };
    let error = server.start().await.unwrap_err();
    let StartError::Silent { address, timeout, .. } = &error else { panic!("{error}") };
    assert_eq!(*timeout, startup_timeout);
    assert!(
        error.to_string().contains(&format!("{address} did not start within 50ms; last conn")),
        "{error}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_is_killed_once() {
    let mut command = std::process::Command::new("/bin/sleep");
    let child = command.arg("1000").spawn().unwrap();
    let server = process::Server::of(child);
    assert!(server.is_kept());
    tokio::join!(server.shutdown(), server.shutdown());
    assert!(!server.is_kept());
}
