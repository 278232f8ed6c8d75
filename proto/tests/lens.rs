//! The lens agrees with the full messages: every field has the number, the name, the presence and a wire-compatible type of
//! the field it stands for, and every variant is there. Pairs are found by walking both sides from [`ROOTS`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use outlast_proto::lens::history as lens;
use outlast_proto::temporal::api::common::v1::{Payload, Payloads};
use outlast_proto::temporal::api::enums::v1::EventType;
use outlast_proto::temporal::api::history::v1 as full;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Lens messages that a reader starts from, and those found inside carried bytes. The rest is reached from here.
const ROOTS: &[(&str, &str)] = &[
    ("outlast.history.History", "temporal.api.history.v1.History"),
    ("outlast.history.HistoryEvent", "temporal.api.history.v1.HistoryEvent"),
    ("outlast.history.Payload", "temporal.api.common.v1.Payload"),
    ("outlast.history.Payloads", "temporal.api.common.v1.Payloads"),
    ("outlast.history.Memo", "temporal.api.common.v1.Memo"),
    ("outlast.history.Header", "temporal.api.common.v1.Header"),
    (
        "outlast.api.PollWorkflowTaskQueueResponse",
        "temporal.api.workflowservice.v1.PollWorkflowTaskQueueResponse",
    ),
    (
        "outlast.api.GetWorkflowExecutionHistoryResponse",
        "temporal.api.workflowservice.v1.GetWorkflowExecutionHistoryResponse",
    ),
    (
        "outlast.api.RespondWorkflowTaskCompletedRequest",
        "temporal.api.workflowservice.v1.RespondWorkflowTaskCompletedRequest",
    ),
    (
        "outlast.api.RespondWorkflowTaskCompletedResponse",
        "temporal.api.workflowservice.v1.RespondWorkflowTaskCompletedResponse",
    ),
    ("outlast.api.Request", "temporal.api.update.v1.Request"),
    ("outlast.api.Meta", "temporal.api.update.v1.Meta"),
    ("outlast.api.Acceptance", "temporal.api.update.v1.Acceptance"),
    ("outlast.api.Rejection", "temporal.api.update.v1.Rejection"),
    ("outlast.api.Response", "temporal.api.update.v1.Response"),
    ("outlast.api.Failure", "temporal.api.failure.v1.Failure"),
    ("outlast.api.RetryPolicy", "temporal.api.common.v1.RetryPolicy"),
    ("outlast.api.WorkflowExecution", "temporal.api.common.v1.WorkflowExecution"),
    ("outlast.api.WorkerDeploymentVersion", "temporal.api.deployment.v1.WorkerDeploymentVersion"),
    ("outlast.lang.WorkflowActivation", "coresdk.workflow_activation.WorkflowActivation"),
    ("outlast.lang.WorkflowActivationCompletion", "coresdk.workflow_completion.WorkflowActivationCompletion"),
    ("outlast.lang.LocalActivityMarkerData", "coresdk.external_data.LocalActivityMarkerData"),
];

/// Messages whose name in the lens is another one.
const RENAMED: &[(&str, &str)] = &[
    ("outlast.lang.WorkflowCompletionSuccess", "coresdk.workflow_completion.Success"),
    ("outlast.lang.WorkflowCompletionFailure", "coresdk.workflow_completion.Failure"),
    ("outlast.lang.Failed", "coresdk.activity_result.Failure"),
    ("outlast.lang.Failed", "coresdk.activity_result.Cancellation"),
    ("outlast.lang.Failed", "coresdk.child_workflow.Failure"),
    ("outlast.lang.Failed", "coresdk.child_workflow.Cancellation"),
];

/// Fields of the lang protocol that the lens leaves out, and variants that a oneof of the lens leaves out, with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("outlast.api.Failure.server_failure_info", "what is not looked into is told apart by nobody"),
    ("outlast.api.Failure.reset_workflow_failure_info", "the same"),
    ("outlast.api.Failure.nexus_handler_failure_info", "the same"),
    ("outlast.lang.Failed.cause", "said by an activity's completion; no workflow is told"),
];

/// Messages and enums by full name.
#[derive(Default)]
struct Schema {
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
}

impl Schema {
    fn read(descriptors: &[u8]) -> Self {
        let mut schema = Self::default();
        for file in FileDescriptorSet::decode(descriptors).unwrap().file {
            let package = file.package().to_owned();
            file.message_type.into_iter().for_each(|m| schema.add(&package, m));
            for e in file.enum_type {
                schema.enums.insert(format!("{package}.{}", e.name()), e);
            }
        }
        schema
    }

    fn add(&mut self, parent: &str, message: DescriptorProto) {
        let name = format!("{parent}.{}", message.name());
        message.nested_type.iter().for_each(|m| self.add(&name, m.clone()));
        for e in &message.enum_type {
            self.enums.insert(format!("{name}.{}", e.name()), e.clone());
        }
        self.messages.insert(name, message);
    }

    /// The message a field holds, by its full name.
    fn message(&self, field: &FieldDescriptorProto) -> &DescriptorProto {
        &self.messages[type_name(field)]
    }

    fn is_map(&self, field: &FieldDescriptorProto) -> bool {
        field.r#type() == Type::Message
            && self
                .messages
                .get(type_name(field))
                .is_some_and(|m| m.options.as_ref().is_some_and(|o| o.map_entry()))
    }
}

fn type_name(field: &FieldDescriptorProto) -> &str {
    field.type_name().trim_start_matches('.')
}

fn simple(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

/// The oneof a field stands in, but not the one that `optional` makes.
fn oneof<'a>(message: &'a DescriptorProto, field: &FieldDescriptorProto) -> Option<&'a str> {
    let index = field.oneof_index.filter(|_| !field.proto3_optional())?;
    Some(message.oneof_decl[index as usize].name())
}

fn has_presence(field: &FieldDescriptorProto) -> bool {
    field.label() != Label::Repeated && (field.oneof_index.is_some() || field.r#type() == Type::Message)
}

/// The walk: pairs of a lens message and the full message it stands for, and what is wrong with them.
struct Check {
    lens: Schema,
    full: Schema,
    seen: BTreeSet<(String, String)>,
    wrong: Vec<String>,
    left_out: BTreeSet<String>,
}

impl Check {
    fn new() -> Self {
        let lens = Schema::read(include_bytes!("../src/gen/lens/lens.bin"));
        let full = Schema::read(include_bytes!("../src/gen/api/api.bin"));
        Self { lens, full, seen: BTreeSet::new(), wrong: Vec::new(), left_out: BTreeSet::new() }
    }

    fn pair(&mut self, lens: &str, full: &str) {
        if !self.seen.insert((lens.to_owned(), full.to_owned())) {
            return;
        }
        if simple(lens) != simple(full) && !RENAMED.contains(&(lens, full)) {
            self.wrong.push(format!("{lens} stands for {full}: list it as renamed or rename it"));
        }
        let (Some(small), Some(big)) =
            (self.lens.messages.get(lens).cloned(), self.full.messages.get(full).cloned())
        else {
            self.wrong.push(format!("{lens} or {full} does not exist"));
            return;
        };
        for field in &small.field {
            let at = format!("{lens}.{}", field.name());
            match big.field.iter().find(|f| f.number() == field.number()) {
                None => self.wrong.push(format!("{at}: {full} has no field {}", field.number())),
                Some(real) => {
                    if real.name() != field.name() {
                        self.wrong.push(format!(
                            "{at}: field {} of {full} is {}",
                            real.number(),
                            real.name()
                        ));
                    }
                    if oneof(&small, field) != oneof(&big, real) {
                        self.wrong.push(format!("{at}: not in the oneof of {full}"));
                    }
                    if has_presence(field) != has_presence(real) {
                        self.wrong.push(format!("{at}: its presence is not that in {full}"));
                    }
                    self.field(&at, field, real);
                }
            }
        }
        let complete = lens.starts_with("outlast.lang.");
        let oneofs: BTreeSet<&str> = small.field.iter().filter_map(|f| oneof(&small, f)).collect();
        for real in &big.field {
            let needed = complete || oneof(&big, real).is_some_and(|o| oneofs.contains(o));
            if needed && !small.field.iter().any(|f| f.number() == real.number()) {
                self.left_out.insert(format!("{lens}.{}", real.name()));
            }
        }
    }

    /// Whether what one side writes the other can read, and nothing is lost.
    fn field(&mut self, at: &str, lens: &FieldDescriptorProto, full: &FieldDescriptorProto) {
        if lens.label() != full.label() {
            self.wrong.push(format!("{at}: repeated on one side only"));
        }
        match (lens.r#type(), full.r#type()) {
            (Type::Bytes, Type::Bytes | Type::String | Type::Message) | (Type::Int32, Type::Enum) => {}
            (Type::Enum, Type::Enum) => self.enums(at, type_name(lens), type_name(full)),
            (Type::Message, Type::Message) if self.lens.is_map(lens) => {
                if !self.full.is_map(full) {
                    self.wrong.push(format!("{at}: a map on one side only"));
                    return;
                }
                let (small, big) = (self.lens.message(lens).clone(), self.full.message(full).clone());
                for (part, real) in small.field.iter().zip(&big.field) {
                    self.field(&format!("{at}.{}", part.name()), part, real);
                }
            }
            (Type::Message, Type::Message) => {
                let (small, big) = (type_name(lens).to_owned(), type_name(full).to_owned());
                if small.starts_with("google.") {
                    if small != big {
                        self.wrong.push(format!("{at}: {small} is not {big}"));
                    }
                } else {
                    self.pair(&small, &big);
                }
            }
            (a, b) if a == b => {}
            (a, b) => self.wrong.push(format!("{at}: {a:?} cannot stand for {b:?}")),
        }
    }

    /// The same values; the lens may put a word before a name, since enums of one package share their names.
    fn enums(&mut self, at: &str, lens: &str, full: &str) {
        let values = |e: &EnumDescriptorProto| -> BTreeMap<i32, String> {
            e.value.iter().map(|v| (v.number(), v.name().to_owned())).collect()
        };
        let (small, big) = (values(&self.lens.enums[lens]), values(&self.full.enums[full]));
        let same = small.len() == big.len()
            && small.iter().all(|(number, name)| big.get(number).is_some_and(|n| name.ends_with(n.as_str())));
        if !same {
            self.wrong.push(format!("{at}: {small:?} are not the values of {full}: {big:?}"));
        }
    }

    fn run(mut self) -> Self {
        ROOTS.iter().for_each(|(lens, full)| self.pair(lens, full));
        self
    }
}

#[test]
fn every_field_is_the_one_it_stands_for() {
    let check = Check::new().run();
    assert!(check.wrong.is_empty(), "\n{}\n", check.wrong.join("\n"));
    let reached: BTreeSet<&str> = check.seen.iter().map(|(lens, _)| lens.as_str()).collect();
    let unused: Vec<&String> = (check.lens.messages.keys())
        .filter(|name| {
            !reached.contains(name.as_str())
                && !check.lens.messages[*name].options.as_ref().is_some_and(|o| o.map_entry())
        })
        .filter(|name| name.starts_with("outlast."))
        .collect();
    assert!(unused.is_empty(), "reached from no root: {unused:?}");
    let listed: BTreeSet<String> = LEFT_OUT.iter().map(|(field, _)| (*field).to_owned()).collect();
    assert_eq!(check.left_out, listed, "what the lens leaves out is not what the list says");
}

#[test]
fn every_event_command_and_job_is_there() {
    let check = Check::new();
    let count = |message: &str, group: &str| {
        let message = &check.lens.messages[message];
        message.field.iter().filter(|f| oneof(message, f) == Some(group)).count()
    };
    assert_eq!(count("outlast.history.HistoryEvent", "attributes"), 60);
    assert_eq!(count("outlast.lang.WorkflowCommand", "variant"), 22);
    assert_eq!(count("outlast.lang.WorkflowActivationJob", "variant"), 16);
    // The list of left-out variants in the test above compares these with the full messages.
    let types = check.full.enums["temporal.api.enums.v1.EventType"].value.len();
    assert_eq!(types, 60 + 1, "an event type without a place in the lens");
}

/// The walk would notice: each of these changes to the lens is one that it must report.
#[test]
fn a_wrong_field_is_seen() {
    type Change = fn(&mut FieldDescriptorProto);
    let changes: &[(&str, &str, Change)] = &[
        ("outlast.history.TimerFiredEventAttributes", "timer_id", |f| f.number = Some(3)),
        ("outlast.history.TimerFiredEventAttributes", "started_event_id", |f| {
            f.name = Some("started".into())
        }),
        ("outlast.history.TimerFiredEventAttributes", "timer_id", |f| f.set_type(Type::Int64)),
        ("outlast.history.TimerFiredEventAttributes", "timer_id", |f| f.set_label(Label::Repeated)),
        ("outlast.history.ActivityTaskCompletedEventAttributes", "result", |f| f.oneof_index = None),
        ("outlast.history.HistoryEvent", "event_type", |f| f.set_type(Type::Int64)),
        ("outlast.lang.FireTimer", "seq", |f| f.set_type(Type::Sint32)),
        ("outlast.lang.WorkflowActivation", "timestamp", |f| {
            f.type_name = Some(".google.protobuf.Duration".into())
        }),
        ("outlast.lang.WorkflowActivationJob", "fire_timer", |f| {
            f.type_name = Some(".outlast.lang.UpdateRandomSeed".into())
        }),
        ("outlast.lang.ScheduleActivity", "cancellation_type", |f| {
            f.type_name = Some(".outlast.lang.ChildWorkflowCancellationType".into())
        }),
    ];
    for (message, name, change) in changes {
        let mut check = Check::new();
        let fields = &mut check.lens.messages.get_mut(*message).unwrap().field;
        change(fields.iter_mut().find(|f| f.name() == *name).unwrap());
        assert!(!check.run().wrong.is_empty(), "{message}.{name}: nobody noticed");
    }
    let mut check = Check::new();
    check.lens.messages.get_mut("outlast.lang.WorkflowCommand").unwrap().field.pop();
    assert!(check.run().left_out.contains("outlast.lang.WorkflowCommand.request_cancel_nexus_operation"));
}

/// A server newer than this code puts field 99 into a payload, and a field into an event that is only carried: both are
/// still there when the bytes go out again.
#[test]
fn unknown_fields_survive_inside_what_is_carried() {
    let payload = Payload { data: Bytes::from_static(b"\"hi\""), ..Default::default() };
    let mut newer = payload.encode_to_vec();
    newer.extend([0x9a, 0x06, 3, b'n', b'e', b'w']); // field 99, three bytes
    let mut payloads = vec![0x0a, u8::try_from(newer.len()).unwrap()];
    payloads.extend(&newer);

    let attributes =
        full::ActivityTaskCompletedEventAttributes { scheduled_event_id: 5, ..Default::default() };
    let mut attributes = attributes.encode_to_vec();
    attributes.extend([0x0a, u8::try_from(payloads.len()).unwrap()]);
    attributes.extend(&payloads);
    let event = full::HistoryEvent {
        event_id: 7,
        event_type: EventType::ActivityTaskCompleted as i32,
        ..Default::default()
    };
    let mut event = event.encode_to_vec();
    event.extend([0x8a, 0x01, u8::try_from(attributes.len()).unwrap()]); // field 17
    event.extend(&attributes);
    let mut history = vec![0x0a, u8::try_from(event.len()).unwrap()];
    history.extend(&event);

    // The full types read it as an ordinary event, without what they do not know.
    let known = full::HistoryEvent::decode(event.as_slice()).unwrap();
    let Some(full::history_event::Attributes::ActivityTaskCompletedEventAttributes(known)) = known.attributes
    else {
        panic!("not the event that was written")
    };
    assert_eq!(known.result, Some(Payloads { payloads: vec![payload] }));

    // The lens hands the payload on byte for byte, as a slice of the frame.
    let frame = Bytes::from(history);
    let events = lens::History::decode(frame.clone()).unwrap().events;
    assert_eq!(events, [Bytes::from(event)]);
    let read = lens::HistoryEvent::decode(events[0].clone()).unwrap();
    let Some(lens::history_event::Attributes::ActivityTaskCompletedEventAttributes(read)) = read.attributes
    else {
        panic!("not the event that was written")
    };
    assert_eq!((read.scheduled_event_id, read.result.as_deref()), (5, Some(payloads.as_slice())));
    let carried = lens::Payloads::decode(read.result.unwrap()).unwrap();
    assert_eq!(carried.payloads, [Bytes::from(newer)]);
    assert!(frame.as_ptr_range().contains(&carried.payloads[0].as_ptr()), "the payload was copied");
    assert_eq!(carried.encode_to_vec(), payloads);
}
