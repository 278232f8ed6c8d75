//! A real Temporal server for the length of the demo: its own port on the loopback address, its own directory.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outlast_core::Client;

use crate::Failed;

pub struct Server {
    process: Child,
    directory: PathBuf,
    pub address: String,
}

impl Server {
    /// Starts the program that `OUTLAST_TEMPORAL_BIN` names (the `temporal` command of Temporal).
    pub fn start() -> Result<Self, Failed> {
        let binary = std::env::var_os("OUTLAST_TEMPORAL_BIN")
            .ok_or("OUTLAST_TEMPORAL_BIN must name the `temporal` command; `make demo` sets it")?;
        let directory = std::env::temp_dir().join(format!("outlast-demo-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new(binary)
            .args(["server", "start-dev", "--headless", "--log-level", "error", "--ip", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--db-filename"])
            .arg(directory.join("server.db"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, directory, address: format!("127.0.0.1:{port}") })
    }

    /// Connects, as soon as the server and its namespace are there.
    pub async fn client(&self) -> Result<Client, Failed> {
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            let problem = match outlast_core::connect(&self.address).await {
                Ok(client) => match client.describe_namespace("default", Default::default()).await {
                    Ok(_) => return Ok(client),
                    Err(problem) => problem,
                },
                Err(problem) => problem,
            };
            if Instant::now() > give_up {
                return Err(format!("the server does not come up: {problem}").into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process is ours and may be gone already; the directory holds nothing but its database.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
