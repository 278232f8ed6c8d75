//! A real server for the length of a test process: a free port, a database of its own, gone with whoever started it.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use outlast_core::{Client, ClientOptions};
use tokio::time::{Instant, sleep};

/// Starts the server below a shell that ends it when its input ends: also if the tests are killed. A first line of
/// input means that the database is still needed.
const GUARD: &str = r#"directory=$1; shift; "$@" >/dev/null 2>&1 & pid=$!
read -r keep; kill -9 $pid; wait $pid 2>/dev/null; [ -n "$keep" ] || rm -rf "$directory""#;

pub struct Server {
    guard: Mutex<Child>,
    port: u16,
    directory: PathBuf,
    settings: &'static [&'static str],
}

impl Server {
    /// The server that the scenarios share; `None`, said aloud, where there is none to be had.
    pub fn shared() -> Option<&'static Server> {
        static SHARED: OnceLock<Option<Server>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("shared", &[])).as_ref()
    }

    /// A server of one's own, with dynamic settings.
    pub fn start(name: &str, settings: &'static [&'static str]) -> Option<Self> {
        let Some(binary) = std::env::var_os("OUTLAST_TEMPORAL_BIN") else {
            skip("conformance: OUTLAST_TEMPORAL_BIN names no server, no scenario was played");
            return None;
        };
        let directory =
            std::env::temp_dir().join(format!("outlast-conformance-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Some(Self {
            guard: Mutex::new(launch(Path::new(&binary), port, &directory, settings)),
            port,
            directory,
            settings,
        })
    }

    /// Ends the process and starts another one on the same port and the same database.
    pub fn restart(&self) {
        let binary = std::env::var_os("OUTLAST_TEMPORAL_BIN").unwrap();
        let mut guard = self.guard.lock().unwrap();
        guard.stdin.as_mut().unwrap().write_all(b"keep\n").unwrap();
        end(&mut guard);
        *guard = launch(Path::new(&binary), self.port, &self.directory, self.settings);
    }

    /// A connection, as soon as the server and its namespace are there.
    pub async fn client(&self) -> Client {
        self.client_with(|_| {}).await
    }

    pub async fn client_with(&self, set: impl Fn(&mut ClientOptions)) -> Client {
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            let problem = match outlast_core::connect_with(&format!("127.0.0.1:{}", self.port), &set).await {
                Ok(client) => match client.describe_namespace("default", Default::default()).await {
                    Ok(_) => return client,
                    Err(problem) => problem,
                },
                Err(problem) => problem,
            };
            assert!(Instant::now() < give_up, "the server does not come up: {problem}");
            // A process that is being started says nothing to wait for.
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.guard.lock().unwrap());
    }
}

fn end(guard: &mut Child) {
    drop(guard.stdin.take());
    guard.wait().unwrap();
}

fn launch(binary: &Path, port: u16, directory: &Path, settings: &[&str]) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, "guard"]).arg(directory).arg(binary);
    command.args(["server", "start-dev", "--headless", "--log-level", "never", "--ip", "127.0.0.1"]);
    command.args(["--port", &port.to_string(), "--search-attribute", "Shade=Keyword"]);
    command.arg("--db-filename").arg(directory.join("server.db"));
    for setting in settings {
        command.args(["--dynamic-config-value", setting]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Notes what could not be checked where `make test` lists it; with REQUIRE_ALL it is a failure.
fn skip(reason: &str) {
    let required = std::env::var("REQUIRE_ALL").unwrap_or_default();
    assert!(required.is_empty(), "skipped with REQUIRE_ALL: {reason}");
    eprintln!("SKIPPED: {reason}");
    if let Some(list) = std::env::var_os("OUTLAST_SKIPPED") {
        let mut list = OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{reason}").unwrap();
    }
}
