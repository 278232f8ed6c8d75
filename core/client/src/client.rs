//! The client: one call at a time, tried again as the policy says. Holds the connection and what goes along with
//! every call; does not know what any call means, save GetSystemInfo.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use outlast_proto::services::Rpc;
use outlast_proto::temporal::api::workflowservice::v1 as api;
use prost::Message;
use tokio::time::{Instant, sleep, timeout};

use crate::connect::Network;
use crate::current::Current;
use crate::observe::log_retry;
use crate::retry::{Decision, Failure, is_retryable_poll};
use crate::{
    CallEnd, CallInfo, CallObserver, ClientOptions, Code, Error, Kind, Metadata, RetryKind, RetryPolicy,
    Service, WarnSizes, error,
};

/// How one call differs from others.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// The deadline; `None`: the client's. It bounds an ordinary call with all its retries, and each try of a
    /// long poll.
    pub timeout: Option<Duration>,
    /// The deadline bounds each try of an ordinary call, too; how often one is made is then up to the policy alone.
    pub timeout_each_try: bool,
    /// A user waits for something to happen: told to the observer. It does not change the deadline.
    pub waits: bool,
    /// The task queue that the call is about: told to the observer.
    pub task_queue: Option<String>,
    /// When to try again.
    pub retry: RetryKind,
    /// Codes to hand back at once although they would be tried again.
    pub return_on: &'static [Code],
    /// Sent with this call, over what is sent with every call.
    pub metadata: Metadata,
    /// Sent as the header `temporal-namespace`, and told to the observer.
    pub namespace: Option<String>,
}

impl CallOptions {
    /// A call that waits for something to happen.
    pub fn long_poll() -> Self {
        Self { retry: RetryKind::LongPoll, ..Self::default() }
    }
}

/// A connection to a server. Clones share it.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// What says which connection the next try goes by, if it may change.
    follows: Option<Current>,
}

struct Inner {
    transport: Transport,
    identity: String,
    key: String,
    retry: RetryPolicy,
    call_timeout: Duration,
    long_poll_timeout: Duration,
    encode_limit: usize,
    warn_sizes: WarnSizes,
    observer: Option<Arc<dyn CallObserver>>,
    headers: RwLock<Headers>,
    system_info: OnceLock<Arc<api::GetSystemInfoResponse>>,
}

enum Transport {
    Network(Arc<Network>),
    InProcess(Arc<dyn Service>),
}

/// What users may change while calls are made. `all` is made from the options whenever they change.
struct Headers {
    options: ClientOptions,
    all: Metadata,
}

/// One call, ready to be made as often as it takes.
struct Call<'a> {
    path: PathAndQuery,
    request: Bytes,
    options: &'a CallOptions,
}

impl Client {
    /// Connects and learns what the server can do.
    pub async fn connect(options: ClientOptions) -> Result<Self, Error> {
        let client = Self::lazy(options)?;
        client.system_info().await?;
        Ok(client)
    }

    /// Connects when the first call is made. Settings are checked now.
    pub fn lazy(options: ClientOptions) -> Result<Self, Error> {
        options.check()?;
        let network = Network::new(&options)?;
        Self::new(Transport::Network(Arc::new(network)), options)
    }

    /// Calls a server in the same process; the target in the options is not used.
    pub fn in_process(service: Arc<dyn Service>, options: ClientOptions) -> Result<Self, Error> {
        Self::new(Transport::InProcess(service), options)
    }

    fn new(transport: Transport, options: ClientOptions) -> Result<Self, Error> {
        let inner = Inner {
            transport,
            identity: options.identity.clone(),
            key: crate::unique_name(),
            retry: options.retry,
            call_timeout: options.call_timeout,
            long_poll_timeout: options.long_poll_timeout,
            encode_limit: options.encode_limit,
            warn_sizes: options.warn_sizes,
            observer: options.observer.clone(),
            headers: RwLock::new(Headers { all: options.headers()?, options }),
            system_info: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner), follows: None })
    }

    /// Makes a call with messages. `path` is one of the constants of `outlast_proto`. The `bytes` fields of the
    /// answer are slices of the frame it came in.
    pub async fn call<Q, R>(&self, path: &'static str, request: &Q, options: CallOptions) -> Result<R, Error>
    where
        Q: Message,
        R: Message + Default,
    {
        let request = Bytes::from(request.encode_to_vec());
        let call = Call { path: PathAndQuery::from_static(path), request, options: &options };
        let answer = self.run(&call).await?;
        R::decode(answer).map_err(|e| Error::malformed(path, e))
    }

    /// Makes any call with encoded messages: `call_bytes("temporal.api.workflowservice.v1.WorkflowService",
    /// "StartWorkflowExecution", …)`.
    pub async fn call_bytes(
        &self,
        service: &str,
        method: &str,
        request: Bytes,
        options: CallOptions,
    ) -> Result<Bytes, Error> {
        let named = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_')
        };
        if !named(service) || !named(method) {
            return Err(Error::config(format!(
                "`{service}` and `{method}` are not names of a service and a method"
            )));
        }
        let path = PathAndQuery::from_maybe_shared(Bytes::from(format!("/{service}/{method}")));
        let path = path.map_err(|e| Error::config(format!("/{service}/{method}: {e}")))?;
        self.run(&Call { path, request, options: &options }).await
    }

    /// Makes a call of the table in `outlast_proto::services` with an encoded message. Warns of payloads in it that are
    /// too large. [`raw::read`](crate::raw::read) says what the options should hold.
    pub async fn call_rpc(
        &self,
        rpc: &'static Rpc,
        request: Bytes,
        options: CallOptions,
    ) -> Result<Bytes, Error> {
        self.inner.warn_sizes.check(rpc, &request);
        self.run(&Call { path: PathAndQuery::from_static(rpc.path), request, options: &options }).await
    }

    /// From how large on payloads are warned of.
    pub fn warn_sizes(&self) -> WarnSizes {
        self.inner.warn_sizes
    }

    /// When failed calls are tried again.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.inner.retry
    }

    /// The deadline of a call that waits for something to happen.
    pub fn long_poll_timeout(&self) -> Duration {
        self.inner.long_poll_timeout
    }

    /// Who is calling.
    pub fn identity(&self) -> String {
        self.inner.identity.clone()
    }

    /// Names this connection among all that ever were: workers that share it are grouped by it.
    pub fn key(&self) -> &str {
        &self.inner.key
    }

    /// The name and the version that servers know the caller's SDK by.
    pub fn sdk(&self) -> (String, String) {
        let headers = self.inner.headers.read().unwrap_or_else(PoisonError::into_inner);
        (headers.options.client_name.clone(), headers.options.client_version.clone())
    }

    /// What the server said it can do; `None` before [`Client::system_info`], which [`Client::connect`] calls.
    pub fn capabilities(&self) -> Option<api::get_system_info_response::Capabilities> {
        let info = self.inner.system_info.get()?;
        Some(info.capabilities.unwrap_or_default())
    }

    /// What the server says of itself, asked once. A server that does not know the question can do nothing special.
    pub async fn system_info(&self) -> Result<Arc<api::GetSystemInfoResponse>, Error> {
        self.system_info_with(CallOptions::default()).await
    }

    /// As [`Client::system_info`], with options: not to try again, for example.
    pub async fn system_info_with(
        &self,
        options: CallOptions,
    ) -> Result<Arc<api::GetSystemInfoResponse>, Error> {
        if let Some(info) = self.inner.system_info.get() {
            return Ok(info.clone());
        }
        let path = api::workflow_service::GET_SYSTEM_INFO;
        let answer = self.call(path, &api::GetSystemInfoRequest::default(), options).await;
        let info = match answer {
            Ok(info) => info,
            Err(error) if error.code == Code::Unimplemented => api::GetSystemInfoResponse::default(),
            Err(error) => return Err(error),
        };
        Ok(self.inner.system_info.get_or_init(|| Arc::new(info)).clone())
    }

    /// Changes the API key of calls from now on. A connection without TLS takes one only if TLS was disabled
    /// explicitly.
    pub fn set_api_key(&self, api_key: Option<&str>) -> Result<(), Error> {
        self.inner.change(|options| {
            let encrypted = options.uses_tls();
            options.api_key = api_key.map(str::to_owned);
            let clear = api_key.is_some() && !encrypted && !options.tls_disabled;
            if clear && matches!(self.inner.transport, Transport::Network(_)) {
                return Err(Error::config(
                    "an API key would be sent in the clear: this connection has no TLS",
                ));
            }
            Ok(())
        })
    }

    /// Replaces the metadata of calls from now on, ASCII and binary.
    pub fn set_metadata(&self, metadata: Metadata) -> Result<(), Error> {
        self.inner.change(|options| {
            options.metadata = metadata;
            Ok(())
        })
    }

    /// Goes over to the connection that took the place of this one, if there is such.
    fn follow(&self, inner: &mut Arc<Inner>) -> bool {
        let Some(now) = self.follows.as_ref().map(|current| current.now().inner) else { return false };
        let other = !Arc::ptr_eq(&now, inner);
        *inner = now;
        other
    }

    pub(crate) fn following(self, current: Current) -> Self {
        Self { follows: Some(current), ..self }
    }

    pub(crate) fn alone(self) -> Self {
        Self { follows: None, ..self }
    }

    /// Tries until there is an answer, or the policy gives up.
    async fn run(&self, call: &Call<'_>) -> Result<Bytes, Error> {
        let mut inner = self.inner.clone();
        inner.check_size(call)?;
        let long_poll = call.options.retry == RetryKind::LongPoll;
        let usual = if long_poll { inner.long_poll_timeout } else { inner.call_timeout };
        let limit = call.options.timeout.unwrap_or(usual);
        let each_try = long_poll || call.options.timeout_each_try;
        let start = Instant::now();
        let (mut attempt, mut throttled, mut goaway) = (0_u32, 0_u32, false);
        let (mut before, mut refused): (Option<Error>, Option<Instant>) = (None, None);
        loop {
            attempt = attempt.saturating_add(1);
            let left = if each_try { limit } else { limit.saturating_sub(start.elapsed()) };
            let used = inner.clone();
            let observed = used.observer.as_deref().map(|observer| (observer, call.info(attempt)));
            if let Some((observer, info)) = &observed {
                observer.started(info);
            }
            let began = Instant::now();
            let ended = |code, retry_after| {
                let Some((observer, info)) = &observed else { return };
                observer.finished(info, &CallEnd { code, elapsed: began.elapsed(), retry_after });
            };
            let error = match used.attempt(call, left).await {
                Ok(answer) => {
                    ended(Code::Ok, None);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if self.follow(&mut inner) {
                refused = None;
            }
            throttled = throttled.saturating_add(u32::from(error.code == Code::ResourceExhausted));
            let first_goaway = !goaway && error.is_goaway();
            goaway |= first_goaway;
            if !is_retryable_poll(error.code) {
                refused.get_or_insert_with(Instant::now);
            }
            let failure = Failure {
                attempt,
                throttled,
                elapsed: start.elapsed(),
                refused_for: refused.map_or(Duration::ZERO, |since| since.elapsed()),
                code: error.code,
                too_large: error.kind == Kind::TooLarge,
                first_goaway,
            };
            let wait = inner.decide(call, &error, failure, if each_try { None } else { Some(limit) });
            ended(error.code, wait);
            let Some(wait) = wait else { return Err(inner.explain(error, before.as_ref(), limit)) };
            log_retry(call.path.path(), attempt, &error);
            before = Some(error);
            sleep(wait).await;
            if self.follow(&mut inner) {
                refused = None;
            }
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

impl Inner {
    fn change(&self, edit: impl FnOnce(&mut ClientOptions) -> Result<(), Error>) -> Result<(), Error> {
        let mut headers = self.headers.write().unwrap_or_else(PoisonError::into_inner);
        let mut options = headers.options.clone();
        edit(&mut options)?;
        *headers = Headers { all: options.headers()?, options };
        Ok(())
    }

    /// The wait before the next try; `None`: there is none.
    fn decide(
        &self,
        call: &Call<'_>,
        error: &Error,
        failure: Failure,
        limit: Option<Duration>,
    ) -> Option<Duration> {
        let wanted = call.options.return_on.contains(&error.code) && !failure.first_goaway;
        let hopeless = matches!(error.kind, Kind::Config | Kind::Malformed);
        if wanted || hopeless {
            return None;
        }
        match self.retry.decide(call.options.retry, failure, fastrand::f64()) {
            Decision::Retry(wait) => {
                Some(wait).filter(|wait| limit.is_none_or(|l| failure.elapsed + *wait < l))
            }
            Decision::GiveUp => None,
        }
    }

    fn check_size(&self, call: &Call<'_>) -> Result<(), Error> {
        let (size, limit) = (call.request.len(), self.encode_limit);
        if size <= limit {
            return Ok(());
        }
        let message =
            format!("message too large: the request to {} has {size} bytes, the limit is {limit}", call.path);
        Err(Error::new(Kind::TooLarge, Code::ResourceExhausted, message, false))
    }

    /// A deadline alone says little: whom it was for and what failed before it say more.
    fn explain(&self, error: Error, before: Option<&Error>, limit: Duration) -> Error {
        if error.kind != Kind::TimedOut || error.message != "the deadline passed" {
            return error;
        }
        let whom = match &self.transport {
            Transport::Network(network) => format!(" from {}", network.authority()),
            Transport::InProcess(_) => String::new(),
        };
        let message = match before {
            Some(before) => format!("no answer{whom} within {limit:?}; the try before ended with: {before}"),
            None => format!("no answer{whom} within {limit:?}"),
        };
        Error { message, ..error }
    }

    async fn attempt(&self, call: &Call<'_>, left: Duration) -> Result<Bytes, Error> {
        let mut headers = self.headers.read().unwrap_or_else(PoisonError::into_inner).all.clone();
        headers.extend(&call.options.metadata);
        if let Some(namespace) = &call.options.namespace {
            headers.set_namespace(namespace);
        }
        headers.set_timeout(left);
        let answer = async {
            match &self.transport {
                Transport::Network(network) => {
                    network.unary(call.path.clone(), headers, call.request.clone()).await
                }
                Transport::InProcess(service) => {
                    let answer = service.call(call.path.path(), headers, call.request.clone()).await;
                    answer.map_err(|status| error::refused(status.code, status.message, status.details))
                }
            }
        };
        let expired = |elapsed| {
            let error = Error::new(Kind::TimedOut, Code::DeadlineExceeded, "the deadline passed", false);
            error.with_source(elapsed)
        };
        // Pinned where it is: the future of a gRPC call is some kilobytes, and would be moved into the timeout.
        timeout(left, std::pin::pin!(answer)).await.map_err(expired)?
    }
}

impl Call<'_> {
    /// What an observer hears of a try.
    fn info(&self, attempt: u32) -> CallInfo<'_> {
        let path = self.path.path().trim_start_matches('/');
        let (service, method) = path.split_once('/').unwrap_or(("", path));
        CallInfo {
            service,
            method,
            namespace: self.options.namespace.as_deref(),
            task_queue: self.options.task_queue.as_deref(),
            long_poll: self.options.waits || self.options.retry == RetryKind::LongPoll,
            attempt,
        }
    }
}
