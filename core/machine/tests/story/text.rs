//! The words of transcripts: `Name key=value …` to JSON messages and back. It does not know what any of them means.

use outlast_proto::json::{self, Names};
use serde_json::{Map, Value, json};

/// A line in words. Brackets and quotes hold together.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut depth, mut quoted) = (Vec::new(), String::new(), 0, false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        if c.is_whitespace() && depth == 0 && !quoted {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What stands between slashes.
pub fn items(line: &str) -> Vec<Vec<String>> {
    let words = words(line);
    words.split(|w| w == "/").filter(|w| !w.is_empty()).map(<[String]>::to_vec).collect()
}

/// The value after `key=`, if it is there.
pub fn option<'a>(words: &'a [String], key: &str) -> Option<&'a str> {
    words.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
}

pub fn number(words: &[String], key: &str) -> Option<i64> {
    option(words, key).map(|n| n.parse().unwrap_or_else(|_| panic!("{key}={n} is no number")))
}

/// A message of `key=value` words; dots in keys nest.
pub fn message(words: &[String]) -> Value {
    let mut out = Value::Object(Map::new());
    for word in words {
        let (key, text) = word.split_once('=').unwrap_or((word, "true"));
        let mut at = &mut out;
        for part in key.split('.') {
            at = at.as_object_mut().unwrap().entry(part).or_insert_with(|| json!({}));
        }
        *at = value(text);
    }
    out
}

/// A value: `p(x)` a payload, `ps(x,y)` payloads, `f(message,Type)` a failure, `b(x)` bytes, `@5` a time, else JSON or text.
pub fn value(text: &str) -> Value {
    let inside = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(x) = inside("p") {
        return payload(x);
    }
    if let Some(x) = inside("ps") {
        let payloads: Vec<Value> = x.split(',').filter(|x| !x.is_empty()).map(payload).collect();
        return json!({ "payloads": payloads });
    }
    if let Some(x) = inside("f") {
        let (message, kind) = x.split_once(',').unwrap_or((x, ""));
        return match kind {
            "cancelled" => json!({ "message": message, "canceled_failure_info": {} }),
            "fatal" => json!({ "message": message, "application_failure_info": { "non_retryable": true } }),
            kind => json!({ "message": message, "application_failure_info": { "type": kind } }),
        };
    }
    if let Some(x) = inside("b") {
        return base64(x.as_bytes()).into();
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return time(seconds.parse().unwrap()).into();
    }
    if text == "true" || text == "false" || text.starts_with(['[', '{']) {
        return serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
    text.trim_matches('"').into()
}

/// A time as JSON has it. Stories last less than a day.
pub fn time(seconds: i64) -> String {
    format!("1970-01-01T{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

pub fn payload(data: &str) -> Value {
    json!({ "metadata": { "encoding": base64(b"json/plain") }, "data": base64(data.as_bytes()) })
}

/// The bytes of a message.
pub fn encode(name: &str, message: Value) -> bytes::Bytes {
    json::from_json(name, message.clone()).unwrap_or_else(|e| panic!("{e} in {message}"))
}

/// A message in words.
pub fn render(name: &str, bytes: &[u8]) -> String {
    let value = json::to_json(name, bytes, Names::Proto).unwrap();
    let mut words = Vec::new();
    flatten("", &value, &mut words);
    words.join(" ")
}

/// A value in `key=value` words.
pub fn flatten(path: &str, value: &Value, out: &mut Vec<String>) {
    if let Some(short) = short(value) {
        out.push(format!("{path}={short}"));
        return;
    }
    match value {
        Value::Object(fields) if fields.is_empty() => out.push(format!("{path}={{}}")),
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value, out);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                flatten(&format!("{path}[{at}]"), value, out);
            }
        }
        Value::String(text) => out.push(format!("{path}={text}")),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push(format!("{path}={value}")),
    }
}

/// Payloads and failures in short.
fn short(value: &Value) -> Option<String> {
    let fields = value.as_object()?;
    if fields.contains_key("data") && fields.keys().all(|k| k == "data" || k == "metadata") {
        let kind = fields.get("metadata").and_then(|m| m.get("type")).and_then(Value::as_str);
        let kind = kind.map(|k| format!(":{}", unbase64(k))).unwrap_or_default();
        return Some(format!("p{kind}({})", unbase64(fields["data"].as_str()?)));
    }
    if fields.len() == 1 && fields.get("payloads").is_some_and(|p| p.as_array().is_some_and(|p| p.len() == 1))
    {
        return short(&fields["payloads"][0]).map(|p| format!("ps{}", p.trim_start_matches('p')));
    }
    let is_failure =
        |k: &str| k == "message" || k == "cause" || k == "source" || k.ends_with("_failure_info");
    if fields.keys().all(|k| is_failure(k)) && fields.keys().any(|k| k.ends_with("_failure_info")) {
        let message = fields.get("message").and_then(Value::as_str).unwrap_or_default();
        let (kind, info) = fields.iter().find(|(k, _)| k.ends_with("_failure_info"))?;
        let mut words = Vec::new();
        flatten("", info, &mut words);
        words.retain(|w| w != "={}");
        words.insert(0, kind.trim_end_matches("_failure_info").to_owned());
        let cause = fields.get("cause").and_then(short).map(|c| format!(" <- {c}")).unwrap_or_default();
        return Some(format!("{message:?}({}){cause}", words.join(" ")));
    }
    None
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    out
}

fn unbase64(text: &str) -> String {
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        bits = bits << 6 | DIGITS.iter().position(|d| *d == c).unwrap_or(0) as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
