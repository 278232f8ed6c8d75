//! Stands between a worker and its server and keeps books: each task that was handed out, whether it was answered, and how
//! often. It passes everything on as it is and does not know what a worker ought to do with a task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use outlast_client::{
    CallOptions, Client, ClientOptions, Metadata, RetryKind, Service, ServiceFuture, Status,
};
use outlast_proto::temporal::api::workflowservice::v1 as api;
use prost::Message;

/// A task that was handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Which call brought it.
    pub brought_by: String,
    /// Its run, and the event that started it (of an activity: its id).
    pub of: (String, String),
    /// How often it was answered, or one tried to.
    pub answers: usize,
}

/// What went over the wire.
#[derive(Default)]
pub struct Ledger {
    tasks: Mutex<BTreeMap<Bytes, Entry>>,
}

impl Ledger {
    /// A client whose calls go through the ledger to this one.
    pub fn client(self: &Arc<Self>, beneath: Client) -> Client {
        let proxy = Proxy { ledger: self.clone(), beneath };
        Client::in_process(Arc::new(proxy), ClientOptions::new("localhost:7233".parse().unwrap())).unwrap()
    }

    /// The tasks that were not answered exactly once.
    pub fn wrong(&self) -> Vec<Entry> {
        self.tasks.lock().unwrap().values().filter(|entry| entry.answers != 1).cloned().collect()
    }

    /// Whether this task reached the worker.
    pub fn knows(&self, run: &str, started: i64) -> bool {
        let of = (run.to_owned(), started.to_string());
        self.tasks.lock().unwrap().values().any(|entry| entry.of == of)
    }

    fn handed(&self, method: &str, token: Bytes, run: String, what: String) {
        if !token.is_empty() {
            let entry = Entry { brought_by: method.to_owned(), of: (run, what), answers: 0 };
            self.tasks.lock().unwrap().insert(token, entry);
        }
    }

    fn workflow_task(&self, method: &str, task: api::PollWorkflowTaskQueueResponse) {
        let run = task.workflow_execution.map(|it| it.run_id).unwrap_or_default();
        self.handed(method, task.task_token, run, task.started_event_id.to_string());
    }

    fn activity_task(&self, method: &str, task: api::PollActivityTaskQueueResponse) {
        let run = task.workflow_execution.map(|it| it.run_id).unwrap_or_default();
        self.handed(method, task.task_token, run, format!("activity {}", task.activity_id));
    }

    fn asked(&self, method: &str, request: &Bytes) {
        // Each of these requests begins with the token of its task.
        if method.starts_with("Respond") {
            let token = Answer::decode(request.clone()).unwrap().token;
            if let Some(entry) = self.tasks.lock().unwrap().get_mut(&token) {
                entry.answers += 1;
            }
        }
    }

    fn answered(&self, method: &str, answer: Bytes) {
        match method {
            "PollWorkflowTaskQueue" => self.workflow_task(method, Message::decode(answer).unwrap()),
            "PollActivityTaskQueue" => self.activity_task(method, Message::decode(answer).unwrap()),
            "RespondWorkflowTaskCompleted" => {
                let said = api::RespondWorkflowTaskCompletedResponse::decode(answer).unwrap();
                said.activity_tasks.into_iter().for_each(|task| self.activity_task(method, task));
                said.workflow_task.into_iter().for_each(|task| self.workflow_task(method, task));
            }
            _ => {}
        }
    }
}

/// The token of a task, as any answer has it.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(bytes = "bytes", tag = "1")]
    token: Bytes,
}

struct Proxy {
    ledger: Arc<Ledger>,
    beneath: Client,
}

impl Service for Proxy {
    fn call(&self, path: &str, _: Metadata, request: Bytes) -> ServiceFuture {
        let (ledger, beneath) = (self.ledger.clone(), self.beneath.clone());
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
        let (service, method) = (service.to_owned(), method.to_owned());
        Box::pin(async move {
            ledger.asked(&method, &request);
            let options = CallOptions {
                timeout: Some(Duration::from_secs(80)),
                retry: RetryKind::None,
                ..CallOptions::default()
            };
            let answer = beneath.call_bytes(&service, &method, request, options).await;
            let answer = answer.map_err(|error| Status {
                code: error.code,
                message: error.message,
                details: error.details,
            })?;
            ledger.answered(&method, answer.clone());
            Ok(answer)
        })
    }
}
