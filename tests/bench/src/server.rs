//! A real Temporal server for the length of a measurement: its own port on the loopback address, nothing kept.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outlast_core::Runtime;

/// The variable that names the `temporal` command; `make bench` sets it.
pub const BINARY: &str = "OUTLAST_TEMPORAL_BIN";

/// A running server.
pub struct Server {
    process: Child,
    /// Where it listens.
    pub address: String,
}

impl Server {
    /// Starts it and waits until its namespace is there; the error says why there is none.
    pub fn start() -> Result<Self, String> {
        let binary = std::env::var_os(BINARY).ok_or(format!("{BINARY} is not set"))?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        drop(listener);
        let process = Command::new(&binary)
            .args(["server", "start-dev", "--headless", "--log-level", "error", "--ip", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{} does not start: {e}", binary.display()))?;
        let server = Self { process, address: format!("127.0.0.1:{port}") };
        server.up()?;
        Ok(server)
    }

    /// Asks for the namespace until it is there.
    fn up(&self) -> Result<(), String> {
        let runtime = Runtime::new(Default::default()).map_err(|e| e.to_string())?;
        let give_up = Instant::now() + Duration::from_secs(60);
        runtime.block_on(async {
            loop {
                let asked = match outlast_core::connect(&self.address).await {
                    Ok(client) => client.describe_namespace("default", Default::default()).await,
                    Err(problem) => Err(problem),
                };
                match asked {
                    Ok(_) => return Ok(()),
                    Err(problem) if Instant::now() > give_up => {
                        return Err(format!("the server does not come up: {problem}"));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process is ours and may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
