//! A server that tests script, in the same process. Polls wait for what the test gives them; other calls are answered
//! as the test says, else with an empty message; all calls are kept for the test to read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use outlast_client::{Client, ClientOptions, Code, Metadata, Service, ServiceFuture, Status};
use prost::Message;
use tokio::sync::Notify;
use tokio::time::sleep;

/// How a call ends.
pub enum Answer {
    Is(Bytes),
    Fails(Code, &'static str),
    /// After the time that a network takes.
    FailsLater(Code, &'static str),
    /// Never.
    Silence,
}

impl Answer {
    pub fn is(message: &impl Message) -> Self {
        Self::Is(message.encode_to_vec().into())
    }
}

/// The largest request that is taken, as with servers written in Go.
const MESSAGE_MAX: usize = 4 << 20;

#[derive(Default)]
pub struct Server {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// What polls of a method are given, in order.
    tasks: BTreeMap<String, VecDeque<Bytes>>,
    /// What calls of a method are answered, in order; the last one stays.
    answers: BTreeMap<String, VecDeque<Answer>>,
    calls: BTreeMap<String, VecDeque<Bytes>>,
    /// All calls that tell something of a task, in order.
    told: Vec<(String, Bytes)>,
    polls_ended: bool,
    dropped_polls: usize,
}

impl Server {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn client(self: &Arc<Self>) -> Client {
        let mut options = ClientOptions::new("localhost:7233".parse().unwrap());
        options.identity = "tester".into();
        Client::in_process(Arc::new(Handle(self.clone())), options).unwrap()
    }

    /// The next poll of this method brings this task.
    pub fn give(&self, poll: &str, task: &impl Message) {
        self.give_bytes(poll, task.encode_to_vec().into());
    }

    pub fn give_bytes(&self, poll: &str, task: Bytes) {
        self.state.lock().unwrap().tasks.entry(poll.into()).or_default().push_back(task);
        self.changed.notify_waiters();
    }

    /// The next call of this method, and all after the last one said, are answered so.
    pub fn answer(&self, method: &str, answer: Answer) {
        self.state.lock().unwrap().answers.entry(method.into()).or_default().push_back(answer);
    }

    /// All polls are answered empty, as a server does that knows of a worker's end.
    pub fn end_polls(&self) {
        self.state.lock().unwrap().polls_ended = true;
        self.changed.notify_waiters();
    }

    /// Waits for a call of this method and takes its request.
    pub async fn heard<M: Message + Default>(&self, method: &str) -> M {
        loop {
            let changed = self.changed.notified();
            let call = self.state.lock().unwrap().calls.get_mut(method).and_then(VecDeque::pop_front);
            match call {
                Some(call) => return M::decode(call).unwrap(),
                None => changed.await,
            }
        }
    }

    /// How many calls of this method were made and not yet taken by the test.
    pub fn unheard(&self, method: &str) -> usize {
        self.state.lock().unwrap().calls.get(method).map_or(0, VecDeque::len)
    }

    /// What was told of tasks, in order.
    pub fn told(&self) -> Vec<(String, Bytes)> {
        self.state.lock().unwrap().told.clone()
    }

    /// How many polls the worker gave up waiting for.
    pub fn dropped_polls(&self) -> usize {
        self.state.lock().unwrap().dropped_polls
    }

    fn task(&self, method: &str) -> Option<Bytes> {
        let mut state = self.state.lock().unwrap();
        let task = state.tasks.get_mut(method).and_then(VecDeque::pop_front);
        task.or_else(|| state.polls_ended.then(Bytes::new))
    }

    async fn poll(&self, method: &str) -> Bytes {
        let mut waits = Waits { server: self, answered: false };
        loop {
            let changed = self.changed.notified();
            if let Some(task) = self.task(method) {
                waits.answered = true;
                return task;
            }
            changed.await;
        }
    }
}

/// Counts polls that are dropped.
struct Waits<'a> {
    server: &'a Server,
    answered: bool,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.server.state.lock().unwrap().dropped_polls += usize::from(!self.answered);
    }
}

struct Handle(Arc<Server>);

impl Service for Handle {
    fn call(&self, path: &str, _: Metadata, request: Bytes) -> ServiceFuture {
        let server = self.0.clone();
        let method = path.rsplit('/').next().unwrap().to_owned();
        Box::pin(async move {
            let answer = {
                let mut state = server.state.lock().unwrap();
                let size = request.len();
                if method.starts_with("Respond") || method.starts_with("RecordActivity") {
                    state.told.push((method.clone(), request.clone()));
                }
                state.calls.entry(method.clone()).or_default().push_back(request);
                if size > MESSAGE_MAX {
                    server.changed.notify_waiters();
                    let text = format!("grpc: received message larger than max ({size} vs. {MESSAGE_MAX})");
                    return Err(Status::new(Code::ResourceExhausted, text));
                }
                match state.answers.get_mut(&method) {
                    Some(answers) if answers.len() > 1 => answers.pop_front(),
                    Some(answers) => answers.front().map(|answer| match answer {
                        Answer::Is(bytes) => Answer::Is(bytes.clone()),
                        Answer::Fails(code, text) => Answer::Fails(*code, text),
                        Answer::FailsLater(code, text) => Answer::FailsLater(*code, text),
                        Answer::Silence => Answer::Silence,
                    }),
                    None => None,
                }
            };
            server.changed.notify_waiters();
            match answer {
                Some(Answer::Is(bytes)) => Ok(bytes),
                Some(Answer::Fails(code, text)) => Err(Status::new(code, text)),
                Some(Answer::FailsLater(code, text)) => {
                    sleep(Duration::from_millis(1)).await;
                    Err(Status::new(code, text))
                }
                Some(Answer::Silence) => std::future::pending().await,
                None if method.starts_with("Poll") => Ok(server.poll(&method).await),
                None => Ok(Bytes::new()),
            }
        })
    }
}
