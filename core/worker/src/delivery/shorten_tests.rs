//! What stays of failures that are shortened, and what their messages say of the rest.

use super::*;
use outlast_proto::temporal::api::failure::v1::CanceledFailureInfo;

const MB: usize = 1 << 20;

fn payloads(bytes: usize) -> Option<Payloads> {
    Some(Payloads { payloads: vec![Payload { data: vec![0; bytes].into(), ..Default::default() }] })
}

fn application(message: &str, details: usize) -> Failure {
    let info = ApplicationFailureInfo {
        r#type: "Mine".into(),
        non_retryable: true,
        details: payloads(details),
        next_retry_delay: Some(prost_types::Duration { seconds: 7, nanos: 0 }),
        category: 1,
    };
    Failure {
        message: message.into(),
        stack_trace: "here".into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
        ..Default::default()
    }
}

fn info(failure: &Failure) -> &ApplicationFailureInfo {
    match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => info,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_small_stays_and_what_is_large_is_named() {
    let cause = Failure { message: "deep".into(), ..Default::default() };
    let failure = Failure { cause: Some(Box::new(cause.clone())), ..application("msg", 5 * MB) };
    let short = shortened(failure, "Too large");
    assert_eq!(
        short.message, "Too large; left out of it: details (5242890 bytes). The message was: msg",
        "the payload, and ten bytes that say what it is and how long"
    );
    let ApplicationFailureInfo { r#type, non_retryable, details, next_retry_delay, category } = info(&short);
    assert_eq!((r#type.as_str(), *non_retryable, *category), ("Mine", true, 1));
    assert_eq!((details, next_retry_delay.unwrap().seconds), (&None, 7));
    assert_eq!((short.stack_trace.as_str(), short.cause.as_deref()), ("here", Some(&cause)));
}

#[test]
fn details_that_are_small_stay() {
    let short = shortened(application(&"m".repeat(5 * MB), 10), "Too large");
    assert_eq!(info(&short).details, payloads(10));
    assert!(
        short.message.starts_with("Too large; left out of it: message (5242880 bytes). The message was: mmm")
    );
    assert!(short.message.contains("m [... 5234688 bytes left out ...] m"), "{}", &short.message[4000..4400]);
}

#[test]
fn texts_are_cut_between_characters() {
    let text = "\u{20ac}".repeat(MB);
    let short = short(&text).unwrap();
    assert!(short.starts_with('\u{20ac}') && short.ends_with('\u{20ac}') && short.len() < TEXT_MAX + 100);
}

#[test]
fn every_part_that_is_large_is_cut_however_many_there_are() {
    let large = || "x".repeat(MB);
    let one = || {
        let mut failure = application(&large(), MB);
        (failure.stack_trace, failure.source) = (large(), large());
        failure.encoded_attributes = Some(Payload { data: vec![0; MB].into(), ..Default::default() });
        failure
    };
    let whole = (0..12).fold(one(), |cause, _| Failure { cause: Some(Box::new(cause)), ..one() });
    let short = shortened(whole, "Too large");
    assert!(short.encoded_len() < CHAIN_MAX + 2 * KEPT_MAX, "{}", short.encoded_len());
    let named = short.message.split(". The message was").next().unwrap();
    assert!(named.ends_with(", 49 other parts") || named.contains("other parts"), "{named}");
}

#[test]
fn causes_end_where_they_are_too_many() {
    let texts = || Failure { message: "x".repeat(TEXT_MAX), ..Default::default() };
    let whole = (0..90).fold(texts(), |cause, _| Failure { cause: Some(Box::new(cause)), ..texts() });
    let short = shortened(whole, "Too large");
    assert!(
        short.message.starts_with("Too large; left out of it: causes from the 32. on (48"),
        "{}",
        &short.message[..90]
    );
    let depth = std::iter::successors(short.cause.as_deref(), |it| it.cause.as_deref()).count();
    assert_eq!(depth, 31);
}

#[test]
fn a_message_that_is_encoded_stays_so_below_one_that_can_be_read() {
    let encoded = Some(Payload { data: "secret".into(), ..Default::default() });
    let failure = Failure { encoded_attributes: encoded.clone(), ..application("Encoded failure", 5 * MB) };
    let short = shortened(failure, "Too large");
    assert_eq!(short.message, "Too large; left out of it: details (5242890 bytes)");
    assert_eq!((info(&short).r#type.as_str(), info(&short).non_retryable), ("Mine", true));
    let below = short.cause.unwrap();
    assert_eq!((below.message.as_str(), below.encoded_attributes), ("Encoded failure", encoded));
}

#[test]
fn other_kinds_keep_their_kind() {
    let cancelled = CanceledFailureInfo { details: payloads(MB), identity: "me".into() };
    let failure =
        Failure { failure_info: Some(FailureInfo::CanceledFailureInfo(cancelled)), ..Default::default() };
    let short = shortened(failure, "Too large");
    assert_eq!(short.message, "Too large; left out of it: details (1048584 bytes)");
    let left = CanceledFailureInfo { details: None, identity: "me".into() };
    assert_eq!(short.failure_info, Some(FailureInfo::CanceledFailureInfo(left)));
}

#[test]
fn bare_is_what_it_says_and_whether_it_is_retried() {
    let failure = Failure { cause: Some(Box::default()), ..application("msg", 10) };
    let bare = bare(failure, "No");
    assert_eq!((bare.message.as_str(), bare.stack_trace.as_str()), ("No. The message was: msg", ""));
    assert_eq!(
        (bare.cause.as_ref(), &info(&bare).details, info(&bare).next_retry_delay),
        (None, &None, None)
    );
    assert_eq!((info(&bare).r#type.as_str(), info(&bare).non_retryable), ("Mine", true));
}

#[test]
fn bare_is_of_the_ordinary_kind() {
    let cancelled = FailureInfo::CanceledFailureInfo(CanceledFailureInfo::default());
    let failure = Failure { message: "own".into(), failure_info: Some(cancelled), ..Default::default() };
    let bare = bare(failure, "No");
    assert_eq!(
        (bare.message.as_str(), info(&bare)),
        ("No. The message was: own", &ApplicationFailureInfo::default())
    );
}
