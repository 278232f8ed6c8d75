//! An order as a workflow, written straight on the lang protocol: what a language layer does, here by hand.
//!
//! Charge the card; then give the customer a moment, in which items can be added by update and the address comes by
//! signal; then ship. Written as plain state that is applied job by job and asks for commands.

use std::collections::HashMap;

use outlast_core::proto::coresdk::activity_result::activity_resolution::Status as Resolution;
use outlast_core::proto::coresdk::workflow_activation::{
    DoUpdate, ResolveActivity, WorkflowActivation, workflow_activation_job::Variant as Job,
};
use outlast_core::proto::coresdk::workflow_commands::{
    CompleteWorkflowExecution, FailWorkflowExecution, ScheduleActivity, StartTimer, UpdateResponse,
    WorkflowCommand, update_response::Response, workflow_command::Variant as Command,
};
use outlast_core::proto::coresdk::workflow_completion::{
    Success, WorkflowActivationCompletion, workflow_activation_completion::Status,
};
use outlast_core::proto::temporal::api::common::v1::Payload;
use outlast_core::proto::temporal::api::failure::v1::{
    ApplicationFailureInfo, Failure, failure::FailureInfo,
};
use prost_types::Duration;

/// How long items can be added.
pub const MOMENT: Duration = Duration { seconds: 4, nanos: 0 };

const CHARGE: u32 = 1;
const WAIT: u32 = 2;
const SHIP: u32 = 3;

/// All orders in memory, by run.
#[derive(Default)]
pub struct Orders(HashMap<String, Order>);

#[derive(Default)]
struct Order {
    items: Vec<String>,
    address: Option<String>,
    charged: bool,
    moment_over: bool,
    shipping: bool,
    commands: Vec<WorkflowCommand>,
}

impl Orders {
    /// Applies an activation and answers it.
    pub fn activate(&mut self, activation: WorkflowActivation) -> WorkflowActivationCompletion {
        let run_id = activation.run_id;
        let order = self.0.entry(run_id.clone()).or_default();
        let mut leaves = false;
        for job in activation.jobs {
            match job.variant {
                Some(Job::RemoveFromCache(_)) => leaves = true,
                Some(job) => order.apply(job),
                None => {}
            }
        }
        let commands = order.go_on();
        if leaves {
            self.0.remove(&run_id);
        }
        let status = Status::Successful(Success { commands, ..Default::default() });
        WorkflowActivationCompletion { run_id, status: Some(status), ..Default::default() }
    }
}

impl Order {
    fn apply(&mut self, job: Job) {
        match job {
            Job::InitializeWorkflow(start) => {
                self.items = start.arguments.iter().map(text).collect();
                self.schedule(CHARGE, "charge", self.items.clone());
            }
            Job::ResolveActivity(resolved) => self.resolved(resolved),
            Job::FireTimer(fired) => self.moment_over = self.moment_over || fired.seq == WAIT,
            Job::SignalWorkflow(signal) if signal.signal_name == "address" => {
                self.address = signal.input.first().map(text);
            }
            Job::DoUpdate(update) => self.update(update),
            // Nothing else is asked for, or means anything to an order.
            Job::SignalWorkflow(_)
            | Job::UpdateRandomSeed(_)
            | Job::QueryWorkflow(_)
            | Job::CancelWorkflow(_)
            | Job::NotifyHasPatch(_)
            | Job::ResolveChildWorkflowExecutionStart(_)
            | Job::ResolveChildWorkflowExecution(_)
            | Job::ResolveSignalExternalWorkflow(_)
            | Job::ResolveRequestCancelExternalWorkflow(_)
            | Job::ResolveNexusOperationStart(_)
            | Job::ResolveNexusOperation(_)
            | Job::RemoveFromCache(_) => {}
        }
    }

    fn resolved(&mut self, resolved: ResolveActivity) {
        match (resolved.seq, resolved.result.and_then(|result| result.status)) {
            (CHARGE, Some(Resolution::Completed(_))) => {
                self.charged = true;
                let wait = StartTimer { seq: WAIT, start_to_fire_timeout: Some(MOMENT) };
                self.push(Command::StartTimer(wait));
            }
            (SHIP, Some(Resolution::Completed(shipped))) => {
                let done = CompleteWorkflowExecution { result: shipped.result };
                self.push(Command::CompleteWorkflowExecution(done));
            }
            (_, Some(Resolution::Failed(failed))) => {
                self.push(Command::FailWorkflowExecution(FailWorkflowExecution { failure: failed.failure }));
            }
            _ => {}
        }
    }

    fn update(&mut self, update: DoUpdate) {
        let mut answer = |response| {
            let protocol_instance_id = update.protocol_instance_id.clone();
            let response = UpdateResponse { protocol_instance_id, response: Some(response) };
            self.commands.push(command(Command::UpdateResponse(response)));
        };
        if self.shipping {
            return answer(Response::Rejected(failure("the parcel is closed")));
        }
        answer(Response::Accepted(()));
        self.items.extend(update.input.iter().map(text));
        let total = format!("{} items", self.items.len());
        let response = Response::Completed(payload(&total));
        let protocol_instance_id = update.protocol_instance_id;
        self.push(Command::UpdateResponse(UpdateResponse { protocol_instance_id, response: Some(response) }));
    }

    /// What can be done now that all jobs are applied.
    fn go_on(&mut self) -> Vec<WorkflowCommand> {
        let ready = self.charged && self.moment_over && !self.shipping;
        if let Some(address) = self.address.clone().filter(|_| ready) {
            self.shipping = true;
            let input = self.items.iter().cloned().chain([address]).collect();
            self.schedule(SHIP, "ship", input);
        }
        std::mem::take(&mut self.commands)
    }

    fn schedule(&mut self, seq: u32, activity: &str, input: Vec<String>) {
        self.push(Command::ScheduleActivity(ScheduleActivity {
            seq,
            activity_id: seq.to_string(),
            activity_type: activity.to_owned(),
            arguments: input.iter().map(|text| payload(text)).collect(),
            start_to_close_timeout: Some(Duration { seconds: 10, nanos: 0 }),
            ..Default::default()
        }));
    }

    fn push(&mut self, variant: Command) {
        self.commands.push(command(variant));
    }
}

fn command(variant: Command) -> WorkflowCommand {
    WorkflowCommand { variant: Some(variant), ..Default::default() }
}

/// What an activity does: says so, and returns a receipt.
pub fn perform(activity: &str, input: &[Payload]) -> Payload {
    let words: Vec<String> = input.iter().map(text).collect();
    let receipt = match activity {
        "charge" => format!("charged for {}", words.join(", ")),
        _ => format!("shipped {} to {}", words[..words.len() - 1].join(", "), words[words.len() - 1]),
    };
    println!("    [worker {}] {receipt}", std::process::id());
    payload(&receipt)
}

/// Text as JSON, the encoding that every SDK and the UI can read.
pub fn payload(text: &str) -> Payload {
    let quoted = format!("{text:?}");
    Payload {
        metadata: [("encoding".to_owned(), "json/plain".into())].into(),
        data: quoted.into(),
        ..Default::default()
    }
}

/// The text in a payload.
pub fn text(payload: &Payload) -> String {
    String::from_utf8_lossy(&payload.data).trim_matches('"').to_owned()
}

fn failure(message: &str) -> Failure {
    Failure {
        message: message.to_owned(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo::default())),
        ..Default::default()
    }
}
