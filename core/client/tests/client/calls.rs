//! Calls over a socket: what is sent along, what is tried again, what errors say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use outlast_client::{
    CallEnd, CallInfo, CallObserver, CallOptions, Client, Code, Error, Kind, Metadata, RetryKind,
};
use outlast_proto::lens::api as lens;
use outlast_proto::temporal::api::workflowservice::v1 as api;
use prost::Message;

use crate::server::{Reply, Server, go_away, quick};

const SERVICE: &str = "test.Service";

async fn call(client: &Client, options: CallOptions) -> Result<Bytes, Error> {
    client.call_bytes(SERVICE, "Method", Bytes::from_static(b"ask"), options).await
}

fn ok() -> Reply {
    Reply::Message(b"answer".to_vec())
}

/// What an observer was told, in short.
#[derive(Default)]
struct Diary(Mutex<Vec<String>>);

impl CallObserver for Diary {
    fn started(&self, info: &CallInfo<'_>) {
        self.0.lock().unwrap().push(format!("{} {}.", info.method, info.attempt));
    }

    fn finished(&self, info: &CallInfo<'_>, end: &CallEnd) {
        let then = if end.retry_after.is_some() { "again" } else { "done" };
        let kind = if info.long_poll { "poll" } else { "call" };
        let namespace = info.namespace.unwrap_or("-");
        let line = format!("{} {kind} {namespace} {}. {:?} {then}", info.method, info.attempt, end.code);
        self.0.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn headers_of_every_call_and_how_they_change() {
    let server = Server::start(|_| ok()).await;
    let mut options = server.options();
    options.tls_disabled = true;
    options.api_key = Some("first".into());
    options.metadata.set("tenant", "blue").unwrap();
    options.metadata.set_binary("trace-bin", &[0, 255]).unwrap();
    let client = Client::lazy(options).unwrap();
    let mut own = Metadata::default();
    own.set("tenant", "green").unwrap();
    let special = CallOptions { namespace: Some("ns".into()), metadata: own, ..CallOptions::default() };
    assert_eq!(call(&client, special).await.unwrap(), "answer");

    client.set_api_key(Some("second")).unwrap();
    client.set_metadata(Metadata::default()).unwrap();
    let short = CallOptions { timeout: Some(Duration::from_secs(5)), ..CallOptions::default() };
    call(&client, short).await.unwrap();

    client.set_api_key(None).unwrap();
    call(&client, CallOptions::long_poll()).await.unwrap();

    let seen = server.seen();
    let [first, second, third] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((first.path.as_str(), first.message.as_slice()), ("/test.Service/Method", b"ask".as_slice()));
    assert_eq!(first.authority, server.address.to_string());
    assert_eq!(first.header("authorization"), Some("Bearer first"));
    assert_eq!(first.header("client-name"), Some("outlast-core"));
    assert_eq!(first.header("client-version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(first.header("temporal-namespace"), Some("ns"));
    assert_eq!(first.header("tenant"), Some("green"), "the call's own value goes over the client's");
    assert_eq!(first.header("trace-bin"), Some("AP8"));
    let millis = |text: &str| text.strip_suffix('m').unwrap().parse::<u32>().unwrap();
    assert!((1..=30_000).contains(&millis(first.header("grpc-timeout").unwrap())));

    assert_eq!(second.header("authorization"), Some("Bearer second"));
    assert_eq!((second.header("tenant"), second.header("trace-bin")), (None, None));
    assert!(millis(second.header("grpc-timeout").unwrap()) <= 5_000);

    assert_eq!(third.header("authorization"), None);
    assert_eq!(third.header("grpc-timeout"), Some("70000m"));
}

#[tokio::test]
async fn an_api_key_is_never_sent_in_the_clear_by_accident() {
    let server = Server::start(|_| ok()).await;
    let client = Client::lazy(server.options()).unwrap();
    let error = client.set_api_key(Some("key")).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    call(&client, CallOptions::default()).await.unwrap();
    assert_eq!(server.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_failed_call_is_tried_again_and_every_try_is_seen() {
    let mut replies = vec![Reply::Error(14, "down"), Reply::Error(8, "slow down"), ok()].into_iter();
    let server = Server::start(move |_| replies.next().unwrap()).await;
    let diary = Arc::new(Diary::default());
    let mut options = server.options();
    options.observer = Some(diary.clone());
    let client = Client::lazy(options).unwrap();
    let options = CallOptions { namespace: Some("ns".into()), ..CallOptions::default() };
    assert_eq!(call(&client, options).await.unwrap(), "answer");
    let lines = diary.0.lock().unwrap().clone();
    let expected = [
        "Method 1.",
        "Method call ns 1. Unavailable again",
        "Method 2.",
        "Method call ns 2. ResourceExhausted again",
        "Method 3.",
        "Method call ns 3. Ok done",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn tries_end_and_the_last_error_is_the_one_returned() {
    let mut count = 0;
    let server = Server::start(move |_| {
        count += 1;
        Reply::Error(14, ["one", "two", "three", "four", "five"][count - 1])
    })
    .await;
    let client = Client::lazy(server.options()).unwrap();
    let error = call(&client, CallOptions::default()).await.unwrap_err();
    assert_eq!((error.kind, error.code, error.message.as_str()), (Kind::Refused, Code::Unavailable, "four"));
    assert!(error.retryable);
}

#[tokio::test]
async fn what_the_server_refuses_is_returned_at_once_with_its_details() {
    // google.rpc.Status { code: 5, message: "gone" }, in base64.
    let server = Server::start(|_| Reply::Details(5, "gone", "CAUSBGdvbmU")).await;
    let client = Client::lazy(server.options()).unwrap();
    for options in [CallOptions::default(), CallOptions::long_poll()] {
        let error = call(&client, options).await.unwrap_err();
        assert_eq!((error.kind, error.code, error.retryable), (Kind::Refused, Code::NotFound, false));
        let status = error.status().unwrap();
        assert_eq!((status.code, status.message.as_str()), (5, "gone"));
    }
    assert_eq!(server.seen().len(), 2, "neither was tried again");
}

#[tokio::test]
async fn a_poll_goes_on_for_a_while_although_the_server_refuses_it() {
    let mut count = 0;
    let server = Server::start(move |_| {
        count += 1;
        if count < 4 { Reply::Error(5, "no such namespace") } else { Reply::Message(b"task".into()) }
    })
    .await;
    let mut options = server.options();
    options.retry.refusals_max = Duration::from_secs(60);
    let client = Client::lazy(options).unwrap();
    assert_eq!(call(&client, CallOptions::long_poll()).await.unwrap(), "task");
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn details_that_cannot_be_read_are_an_error_and_no_panic() {
    let server = Server::start(|_| Reply::Details(5, "gone", "!!!!")).await;
    let client = Client::lazy(server.options()).unwrap();
    let error = call(&client, CallOptions::default()).await.unwrap_err();
    assert_eq!((error.kind, error.code, error.retryable), (Kind::Malformed, Code::Internal, false));
}

#[tokio::test]
async fn a_poll_goes_on_until_there_is_something() {
    let codes = [14, 8, 1, 4, 13, 2, 14, 14];
    let mut replies = codes.into_iter().map(|code| Reply::Error(code, "not now")).chain([ok()]);
    let server = Server::start(move |_| replies.next().unwrap()).await;
    let client = Client::lazy(server.options()).unwrap();
    assert_eq!(call(&client, CallOptions::long_poll()).await.unwrap(), "answer");
    assert_eq!(server.seen().len(), 9);
}

#[tokio::test]
async fn a_caller_can_ask_for_some_codes_at_once() {
    let server = Server::start(|_| Reply::Error(8, "slow down")).await;
    let client = Client::lazy(server.options()).unwrap();
    let options = CallOptions { return_on: &[Code::ResourceExhausted], ..CallOptions::long_poll() };
    assert_eq!(call(&client, options).await.unwrap_err().code, Code::ResourceExhausted);
    let options = CallOptions { return_on: outlast_client::retry::EVERY, ..CallOptions::long_poll() };
    assert_eq!(call(&client, options).await.unwrap_err().code, Code::ResourceExhausted);
    assert_eq!(server.seen().len(), 2);
}

/// A server whose first connections end with a GOAWAY. Also tells how many connections there were.
async fn leaving(first: usize) -> (Server, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let wrap = move |stream: tokio::net::TcpStream| {
        let leave = counted.fetch_add(1, Ordering::SeqCst) < first;
        async move {
            if leave {
                go_away(stream).await;
                return None;
            }
            Some(stream)
        }
    };
    (Server::with(|_| ok(), wrap).await, count)
}

#[tokio::test]
async fn a_goaway_is_tried_again_once_even_without_retries() {
    let never = CallOptions { retry: RetryKind::None, ..CallOptions::default() };
    let (server, _) = leaving(1).await;
    let client = Client::lazy(server.options()).unwrap();
    assert_eq!(call(&client, never.clone()).await.unwrap(), "answer");

    let (server, connections) = leaving(usize::MAX).await;
    let client = Client::lazy(server.options()).unwrap();
    let error = call(&client, never).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Unreachable, Code::Unavailable));
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_anew() {
    let count = AtomicUsize::new(0);
    let wrap = move |stream| {
        let broken = count.fetch_add(1, Ordering::SeqCst) < 2;
        async move { if broken { None } else { Some(stream) } }
    };
    let server = Server::with(|_| ok(), wrap).await;
    let client = Client::lazy(server.options()).unwrap();
    assert_eq!(call(&client, CallOptions::default()).await.unwrap(), "answer");
    assert_eq!(call(&client, CallOptions::default()).await.unwrap(), "answer");
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_nobody_answers() {
    let server = Server::start(|_| Reply::Silence).await;
    let client = Client::lazy(server.options()).unwrap();
    let options = CallOptions { timeout: Some(Duration::from_millis(50)), ..CallOptions::default() };
    let error = call(&client, options).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::TimedOut, Code::DeadlineExceeded));
    assert_eq!(error.message, format!("no answer from {} within 50ms", server.address));
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect(quick(&address)).await.unwrap_err();
    assert_eq!((error.kind, error.code, error.retryable), (Kind::Unreachable, Code::Unavailable, true));
    assert!(error.message.starts_with(&format!("cannot reach {address}: ")), "{}", error.message);
    assert!(error.message.contains("refused"), "{}", error.message);
}

#[tokio::test]
async fn too_large_is_its_own_error_and_never_tried_again() {
    let server = Server::start(|seen| match seen.message.len() {
        3 => Reply::Message(vec![7; 5_000]),
        _ => Reply::Error(8, "grpc: received message larger than max (6000 vs. 4096)"),
    })
    .await;
    let mut options = server.options();
    (options.decode_limit, options.encode_limit) = (4_096, 10_000);
    let client = Client::lazy(options).unwrap();

    let answer = call(&client, CallOptions::default()).await.unwrap_err();
    assert_eq!((answer.kind, answer.retryable), (Kind::TooLarge, false));
    assert!(answer.message.contains("5000 bytes") && answer.message.contains("4096"), "{}", answer.message);

    let ask =
        |size: usize| client.call_bytes(SERVICE, "Method", vec![1; size].into(), CallOptions::long_poll());
    let refused = ask(6_000).await.unwrap_err();
    assert_eq!((refused.kind, refused.retryable), (Kind::TooLarge, false));
    assert!(refused.message.contains("6000 vs. 4096"), "{}", refused.message);

    let unsent = ask(10_001).await.unwrap_err();
    let text = "message too large: the request to /test.Service/Method has 10001 bytes, the limit is 10000";
    assert_eq!((unsent.kind, unsent.message.as_str()), (Kind::TooLarge, text));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn bytes_of_an_answer_are_slices_of_its_frame() {
    let (token, history) = (vec![1_u8; 300], vec![2_u8; 100_000]);
    let task = lens::PollWorkflowTaskQueueResponse {
        task_token: token.into(),
        history: Some(history.into()),
        ..Default::default()
    };
    let encoded = task.encode_to_vec();
    let offset =
        |byte: u8, run: usize| encoded.windows(run).position(|w| w.iter().all(|b| *b == byte)).unwrap();
    let apart = offset(2, 100_000) - offset(1, 300);
    let reply = encoded.clone();
    let server = Server::start(move |_| Reply::Message(reply.clone())).await;
    let client = Client::lazy(server.options()).unwrap();
    let request = api::PollWorkflowTaskQueueRequest { namespace: "ns".into(), ..Default::default() };
    let answer = client.poll_workflow_task_queue(&request, CallOptions::default()).await.unwrap();
    assert_eq!(answer, task);
    let address = |bytes: &Bytes| bytes.as_ptr() as usize;
    assert_eq!(address(answer.history.as_ref().unwrap()) - address(&answer.task_token), apart);
    let seen = &server.seen()[0];
    assert_eq!(seen.header("temporal-namespace"), Some("ns"));
    assert_eq!(seen.header("grpc-timeout"), Some("70000m"), "a poll waits longer");
}

#[tokio::test]
async fn an_answer_that_is_not_the_message_is_malformed() {
    let server = Server::start(|_| Reply::Message(vec![0xff; 3])).await;
    let client = Client::lazy(server.options()).unwrap();
    let error = client.describe_namespace("ns", CallOptions::default()).await.unwrap_err();
    assert_eq!((error.kind, error.retryable), (Kind::Malformed, false));
    assert!(error.message.contains("DescribeNamespace"), "{}", error.message);
}

#[tokio::test]
async fn connecting_learns_what_the_server_can_do() {
    let info = api::GetSystemInfoResponse {
        server_version: "1.2.3".into(),
        capabilities: Some(api::get_system_info_response::Capabilities { nexus: true, ..Default::default() }),
    };
    let reply = info.encode_to_vec();
    let server = Server::start(move |_| Reply::Message(reply.clone())).await;
    let client = Client::connect(server.options()).await.unwrap();
    assert!(client.capabilities().unwrap().nexus);
    assert_eq!(client.system_info().await.unwrap().server_version, "1.2.3");
    assert_eq!(server.seen().len(), 1, "asked once");
    assert!(Client::lazy(server.options()).unwrap().capabilities().is_none());

    let old = Server::start(|_| Reply::Error(12, "unknown method")).await;
    let client = Client::connect(old.options()).await.unwrap();
    assert!(
        !client.capabilities().unwrap().nexus,
        "a server that does not know the question can do nothing special"
    );
}

#[tokio::test]
async fn names_are_checked_before_anything_is_sent() {
    let server = Server::start(|_| ok()).await;
    let client = Client::lazy(server.options()).unwrap();
    for (service, method) in [("", "M"), ("a/b", "M"), ("a.B", "M?x"), ("a.B", "")] {
        let error =
            client.call_bytes(service, method, Bytes::new(), CallOptions::default()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Config);
    }
    assert!(server.seen().is_empty());
}
