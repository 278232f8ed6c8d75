//! The transport without a socket, in virtual time: waits and deadlines are exact here.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use outlast_client::{
    CallOptions, Client, ClientOptions, Code, Kind, Metadata, Service, ServiceFuture, Status,
};
use outlast_proto::lens::api as lens;
use outlast_proto::temporal::api::workflowservice::v1 as api;
use prost::Message;
use tokio::time::Instant;

type Answer = Result<Bytes, Status>;

/// Gives its answers in turn, then none at all. Notes what it was asked.
#[derive(Default)]
struct Script {
    answers: Mutex<Vec<Answer>>,
    asked: Mutex<Vec<(String, Metadata, Bytes)>>,
}

impl Service for Script {
    fn call(&self, path: &str, metadata: Metadata, request: Bytes) -> ServiceFuture {
        self.asked.lock().unwrap().push((path.to_owned(), metadata, request));
        let answer = self.answers.lock().unwrap().pop();
        match answer {
            Some(answer) => Box::pin(async { answer }),
            None => Box::pin(std::future::pending()),
        }
    }
}

fn client(answers: Vec<Answer>) -> (Client, Arc<Script>) {
    let answers = Mutex::new(answers.into_iter().rev().collect());
    let script = Arc::new(Script { answers, ..Script::default() });
    let mut options = ClientOptions::new("localhost:1".parse().unwrap());
    options.retry.jitter = 0.0;
    options.api_key = Some("key".into());
    (Client::in_process(script.clone(), options).unwrap(), script)
}

fn failed(code: Code) -> Answer {
    Err(Status::new(code, "no"))
}

async fn ask(client: &Client, options: CallOptions) -> Result<Bytes, outlast_client::Error> {
    client.call_bytes("test.Service", "Method", Bytes::from_static(b"ask"), options).await
}

#[tokio::test(start_paused = true)]
async fn metadata_and_bytes_arrive_as_over_a_socket() {
    let (client, script) = client(vec![Ok(Bytes::from_static(b"answer"))]);
    let options = CallOptions { namespace: Some("ns".into()), ..CallOptions::default() };
    assert_eq!(ask(&client, options).await.unwrap(), "answer");
    let asked = script.asked.lock().unwrap();
    let (path, metadata, request) = &asked[0];
    assert_eq!((path.as_str(), request.as_ref()), ("/test.Service/Method", b"ask".as_slice()));
    assert_eq!(metadata.ascii("temporal-namespace"), Some("ns"));
    assert_eq!(metadata.ascii("authorization"), Some("Bearer key"));
    assert_eq!(metadata.ascii("grpc-timeout"), Some("30000m"));
}

#[tokio::test(start_paused = true)]
async fn waits_are_those_of_the_policy() {
    let answers = vec![failed(Code::Unavailable), failed(Code::Unavailable), Ok(Bytes::new())];
    let (client, _) = client(answers);
    let start = Instant::now();
    ask(&client, CallOptions::default()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(100 + 170));
}

#[tokio::test(start_paused = true)]
async fn throttled_calls_wait_a_second_and_more() {
    let answers = vec![failed(Code::ResourceExhausted), failed(Code::ResourceExhausted), Ok(Bytes::new())];
    let (client, _) = client(answers);
    let start = Instant::now();
    ask(&client, CallOptions::long_poll()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(1 + 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_after_thirty_seconds_and_a_poll_asks_again_after_seventy() {
    let (client, script) = client(vec![]);
    let start = Instant::now();
    let error = ask(&client, CallOptions::default()).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::TimedOut, "no answer within 30s"));
    assert_eq!(start.elapsed(), Duration::from_secs(30));

    let start = Instant::now();
    let poll = ask(&client, CallOptions::long_poll());
    assert!(
        tokio::time::timeout(Duration::from_secs(200), poll).await.is_err(),
        "a poll does not end by itself"
    );
    assert_eq!(start.elapsed(), Duration::from_secs(200));
    assert_eq!(script.asked.lock().unwrap().len(), 1 + 3, "asked at 0 s, 70.2 s and 140.6 s");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_says_what_failed_before() {
    let (client, _) = client(vec![failed(Code::Unavailable)]);
    let error = ask(&client, CallOptions::default()).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::TimedOut, Code::DeadlineExceeded));
    assert_eq!(error.message, "no answer within 30s; the try before ended with: no");
}

#[tokio::test]
async fn bytes_of_an_answer_are_slices_of_what_the_service_gave() {
    let history = lens::GetWorkflowExecutionHistoryResponse {
        history: Some(vec![1; 1_000].into()),
        next_page_token: vec![2; 100].into(),
    };
    let given = Bytes::from(history.encode_to_vec());
    let (client, _) = client(vec![Ok(given.clone())]);
    let request = api::GetWorkflowExecutionHistoryRequest::default();
    let answer = client.get_workflow_execution_history(&request, CallOptions::default()).await.unwrap();
    assert_eq!(answer, history);
    let given = given.as_ptr_range();
    for slice in [answer.history.unwrap(), answer.next_page_token] {
        let slice = slice.as_ptr_range();
        assert!(given.start <= slice.start && slice.end <= given.end);
    }
}

#[tokio::test(start_paused = true)]
async fn no_try_begins_that_would_miss_the_deadline() {
    let (client, script) = client(vec![failed(Code::ResourceExhausted), Ok(Bytes::new())]);
    let options = CallOptions { timeout: Some(Duration::from_millis(900)), ..CallOptions::default() };
    let error = ask(&client, options).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Refused, Code::ResourceExhausted));
    assert_eq!(script.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_drops_the_answer() {
    struct Watch(Arc<()>);
    impl Service for Watch {
        fn call(&self, _: &str, _: Metadata, _: Bytes) -> ServiceFuture {
            let held = self.0.clone();
            Box::pin(async move {
                let _held = held;
                std::future::pending().await
            })
        }
    }
    let token = Arc::new(());
    let options = ClientOptions::new("localhost:1".parse().unwrap());
    let client = Client::in_process(Arc::new(Watch(token.clone())), options).unwrap();
    let call = ask(&client, CallOptions::long_poll());
    assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    assert_eq!(Arc::strong_count(&token), 2, "held by the service and this test, no longer by the call");
}
