//! A client that another may take the place of while calls are made.

use std::sync::{Arc, PoisonError, RwLock};

use crate::client::Client;

/// The client of now. Calls that are tried again go on by the one that took its place meanwhile: a server that is gone, or
/// a key that ran out, is not asked for ever.
///
/// ```
/// use outlast_client::{Client, ClientOptions, Current};
///
/// let to = |target: &str| Client::lazy(ClientOptions::new(target.parse()?));
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let current = Current::new(to("localhost:7233")?);
/// let calls = current.get();
/// current.set(to("localhost:7234")?);
/// // A call by `calls` that fails at the first server from now on is tried again at the second one.
/// # drop(calls);
/// # Ok::<(), outlast_client::Error>(())
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Current(Arc<RwLock<Client>>);

impl Current {
    /// Begins with this one.
    pub fn new(client: Client) -> Self {
        Self(Arc::new(RwLock::new(client.alone())))
    }

    /// A client whose calls go by the one of now, each try of them.
    pub fn get(&self) -> Client {
        self.now().following(self.clone())
    }

    /// Puts another in its place. A try that is on its way ends where it is.
    pub fn set(&self, client: Client) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = client.alone();
    }

    pub(crate) fn now(&self) -> Client {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
