//! Connect strings: the one thing that changes between a test, one machine and a cluster.

use std::path::PathBuf;
use std::str::FromStr;

use outlast_client::{Client, ClientOptions, Error, Target};

/// Where workflows live.
///
/// ```
/// use outlast_core::ConnectString;
///
/// assert_eq!("memory:".parse::<ConnectString>()?, ConnectString::Memory);
/// assert_eq!("sqlite:orders.db".parse::<ConnectString>()?, ConnectString::Sqlite("orders.db".into()));
/// let ConnectString::Server(target) = "temporal.example.com:7233".parse()? else { panic!() };
/// assert_eq!(target.port(), 7233);
/// # Ok::<(), outlast_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectString {
    /// In this process, gone with it.
    Memory,
    /// In this process, kept in a file.
    Sqlite(PathBuf),
    /// A Temporal server.
    Server(Target),
}

impl FromStr for ConnectString {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", "")) => Err(Error::config("`sqlite:` needs a file name: `sqlite:orders.db`")),
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            Some(_) | None => text.parse().map(Self::Server),
        }
    }
}

/// Connects, with the defaults.
///
/// ```no_run
/// # async fn demo() -> Result<(), outlast_core::Error> {
/// let client = outlast_core::connect("localhost:7233").await?;
/// # let _ = client; Ok(()) }
/// ```
pub async fn connect(text: &str) -> Result<Client, Error> {
    connect_with(text, |_| {}).await
}

/// Connects, with settings of one's own: TLS, API key, headers, an observer of calls.
pub async fn connect_with(text: &str, set: impl FnOnce(&mut ClientOptions)) -> Result<Client, Error> {
    match text.parse()? {
        ConnectString::Server(target) => {
            let mut options = ClientOptions::new(target);
            set(&mut options);
            Client::connect(options).await
        }
        ConnectString::Memory | ConnectString::Sqlite(_) => Err(Error::config(format!(
            "`{text}` names an embedded server, and this build has none; give the address of a Temporal server"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_must_be_named() {
        let error = "sqlite:".parse::<ConnectString>().unwrap_err();
        assert!(error.message.contains("sqlite:orders.db"), "{error}");
    }

    #[test]
    fn a_host_may_begin_like_a_scheme() {
        for host in ["sqlite.example.com:7233", "memory.example.com:7233"] {
            assert!(matches!(host.parse().unwrap(), ConnectString::Server(_)));
        }
    }

    #[tokio::test]
    async fn what_is_not_built_in_is_said() {
        let error = connect("memory:").await.unwrap_err();
        assert!(error.message.contains("this build has none"), "{error}");
    }
}
