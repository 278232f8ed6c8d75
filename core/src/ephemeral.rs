//! Servers for tests and trials: a program that is on this machine, started on a free port and killed when nobody needs
//! it any longer. Where the program comes from is not known here: nothing is downloaded.

mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use process::Server;

use outlast_client::Error;

/// A start that takes longer than this has failed.
pub const STARTUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Temporal's development server: `temporal server start-dev`.
///
/// ```no_run
/// use outlast_core::ephemeral::DevServer;
///
/// # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
/// let server = DevServer::new("/usr/local/bin/temporal").start().await?;
/// let client = outlast_core::connect(server.target()).await?;
/// # let _ = client;
/// server.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DevServer {
    /// The program `temporal`.
    pub program: PathBuf,
    /// A namespace to begin with.
    pub namespace: String,
    /// The address it listens on.
    pub ip: String,
    /// `None`: a free one.
    pub port: Option<u16>,
    /// A file that outlives the server; `None`: everything is in memory.
    pub database: Option<String>,
    /// Whether there is a user interface, on port + 1000 if no port is given for it.
    pub ui: bool,
    /// The port of the user interface, which is then there whatever `ui` says.
    pub ui_port: Option<u16>,
    /// `json` or `pretty`
    pub log_format: String,
    /// `warn`, for example.
    pub log_level: String,
    /// Arguments after all others.
    pub extra_args: Vec<String>,
    /// The longest wait for it to answer.
    pub startup_timeout: Duration,
}

impl DevServer {
    /// The defaults, with the program at this place.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            namespace: "default".into(),
            ip: "127.0.0.1".into(),
            port: None,
            database: None,
            ui: false,
            ui_port: None,
            log_format: "pretty".into(),
            log_level: "warn".into(),
            extra_args: Vec::new(),
            startup_timeout: STARTUP_TIMEOUT,
        }
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&self) -> Result<Server, StartError> {
        present(&self.program)?;
        let port = port(self.port, &self.ip).await?;
        process::start(&self.program, &self.args(port), port, false, self.startup_timeout).await
    }

    /// What the program is told: no question to the version service, and updates, which old versions have off.
    fn args(&self, port: u16) -> Vec<String> {
        const SETTINGS: [&str; 3] = [
            "frontend.enableServerVersionCheck=false",
            "frontend.enableUpdateWorkflowExecution=true",
            "frontend.enableUpdateWorkflowExecutionAsyncAccepted=true",
        ];
        let port_text = port.to_string();
        let mut args = vec!["server", "start-dev", "--port", &port_text, "--namespace", &self.namespace];
        args.extend(["--ip", &self.ip, "--log-format", &self.log_format, "--log-level", &self.log_level]);
        args.extend(SETTINGS.iter().flat_map(|setting| ["--dynamic-config-value", *setting]));
        args.extend(self.database.iter().flat_map(|file| ["--db-filename", file]));
        let ui_port = self.ui_port.or_else(|| self.ui.then(|| port.wrapping_add(1000)));
        let ui_text = ui_port.map(|port| port.to_string());
        match &ui_text {
            Some(port) => args.extend(["--ui-port", port]),
            None => args.push("--headless"),
        }
        args.extend(self.extra_args.iter().map(String::as_str));
        args.into_iter().map(str::to_owned).collect()
    }
}

/// Temporal's test server, whose clock can be skipped ahead.
#[derive(Clone, Debug)]
pub struct TestServer {
    /// The program `temporal-test-server`.
    pub program: PathBuf,
    /// `None`: a free one.
    pub port: Option<u16>,
    /// Arguments after the port.
    pub extra_args: Vec<String>,
    /// The longest wait for it to answer.
    pub startup_timeout: Duration,
}

impl TestServer {
    /// The defaults, with the program at this place.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let (program, startup_timeout) = (program.into(), STARTUP_TIMEOUT);
        Self { program, port: None, extra_args: Vec::new(), startup_timeout }
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&self) -> Result<Server, StartError> {
        present(&self.program)?;
        let port = port(self.port, "0.0.0.0").await?;
        let mut args = vec![port.to_string()];
        args.extend_from_slice(&self.extra_args);
        process::start(&self.program, &args, port, true, self.startup_timeout).await
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such program.
    #[error("ephemeral server executable does not exist: {}", .0.display())]
    Missing(PathBuf),
    /// It could not be run, or there was no port for it.
    #[error("failed to start ephemeral server: {0}")]
    Failed(#[source] std::io::Error),
    /// It runs (or ran), and does not answer.
    #[error("ephemeral server at {address} did not start within {timeout:?}; last connection error: {last}")]
    Silent {
        /// Where it should have answered.
        address: String,
        /// How long it was given.
        timeout: Duration,
        /// Why it could not be asked.
        last: Box<Error>,
    },
}

fn present(program: &Path) -> Result<(), StartError> {
    if program.exists() { Ok(()) } else { Err(StartError::Missing(program.to_owned())) }
}

/// A port that was free a moment ago: the program has no way to be handed the socket itself.
async fn port(wanted: Option<u16>, ip: &str) -> Result<u16, StartError> {
    if let Some(port) = wanted {
        return Ok(port);
    }
    let listener = tokio::net::TcpListener::bind((ip, 0)).await.map_err(StartError::Failed)?;
    Ok(listener.local_addr().map_err(StartError::Failed)?.port())
}

#[cfg(test)]
mod tests;
