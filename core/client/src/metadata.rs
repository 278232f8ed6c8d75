//! What goes along with every call as gRPC metadata: checked when it is given, so that a call never fails for it.

use std::time::Duration;

use tonic::metadata::{
    AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap,
};

use crate::Error;

/// Keys and values of gRPC metadata, ASCII and binary. Setting a key again replaces its value.
///
/// ```
/// let mut metadata = outlast_client::Metadata::default();
/// metadata.set("tenant", "blue")?;
/// metadata.set_binary("trace-bin", b"\x00\xff")?;
/// let error = metadata.set("Tenant", "blue").unwrap_err();
/// assert_eq!(error.message, "metadata key `Tenant`: only lower-case letters, digits, `-`, `_` and `.` are allowed");
/// # Ok::<(), outlast_client::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    map: MetadataMap,
}

impl Metadata {
    /// Sets an ASCII value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        check_key(key)?;
        if key.ends_with("-bin") {
            return Err(wrong(key, "the ending `-bin` is for binary values; use the binary metadata"));
        }
        if !value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
            return Err(wrong(
                key,
                "the value has characters that are not printable ASCII; use a `-bin` key",
            ));
        }
        let name =
            AsciiMetadataKey::from_bytes(key.as_bytes()).map_err(|_| wrong(key, "not a header name"))?;
        let value =
            AsciiMetadataValue::try_from(value).map_err(|_| wrong(key, "the value is not a header value"))?;
        self.map.insert(name, value);
        Ok(())
    }

    /// As [`Metadata::set`], with any key and value that an HTTP header can have: gRPC asks for less, but servers exist that
    /// take more. What gRPC itself says in a header of that name goes over it.
    pub fn set_lenient(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let name = AsciiMetadataKey::from_bytes(key.as_bytes())
            .map_err(|_| wrong(key, "not a header name for text; the ending `-bin` is for binary values"))?;
        let value = AsciiMetadataValue::try_from(value.as_bytes())
            .map_err(|_| wrong(key, "the value is not a header value"))?;
        self.map.insert(name, value);
        Ok(())
    }

    /// As [`Metadata::set_binary`], with any key that an HTTP header can have.
    pub fn set_binary_lenient(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        let name = BinaryMetadataKey::from_bytes(key.as_bytes())
            .map_err(|_| wrong(key, "not a header name for binary values, which ends with `-bin`"))?;
        self.map.insert_bin(name, BinaryMetadataValue::from_bytes(value));
        Ok(())
    }

    /// Sets a binary value; the key ends with `-bin`.
    pub fn set_binary(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        check_key(key)?;
        if !key.ends_with("-bin") {
            return Err(wrong(key, "the key of a binary value must end with `-bin`"));
        }
        let name =
            BinaryMetadataKey::from_bytes(key.as_bytes()).map_err(|_| wrong(key, "not a header name"))?;
        self.map.insert_bin(name, BinaryMetadataValue::from_bytes(value));
        Ok(())
    }

    /// Sets `authorization: Bearer …`. What is in a key is for the server to judge, as long as a header can carry it.
    pub(crate) fn set_api_key(&mut self, api_key: &str) -> Result<(), Error> {
        let key = api_key.trim();
        if key.is_empty() {
            return Err(Error::config("the API key is empty"));
        }
        // The value is a secret: the error of the header is not for users.
        self.set_lenient("authorization", &format!("Bearer {key}"))
            .map_err(|_| Error::config("the API key has control characters, which no header can carry"))
    }

    /// Sets `temporal-namespace`. A name that cannot be a header is left out: the request itself has it, too.
    pub(crate) fn set_namespace(&mut self, namespace: &str) {
        if let Ok(value) = AsciiMetadataValue::try_from(namespace.as_bytes()) {
            self.map.insert("temporal-namespace", value);
        }
    }

    /// Sets `grpc-timeout`, which has at most eight digits, rounded up: our own clock stops first.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        const DIGITS_MAX: u128 = 99_999_999;
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        let text = match millis {
            0..=DIGITS_MAX => format!("{millis}m"),
            _ => format!("{}S", millis.div_ceil(1_000).min(DIGITS_MAX)),
        };
        if let Ok(value) = AsciiMetadataValue::try_from(text) {
            self.map.insert("grpc-timeout", value);
        }
    }

    /// The ASCII value of a key.
    pub fn ascii(&self, key: &str) -> Option<&str> {
        self.map.get(key)?.to_str().ok()
    }

    /// The binary value of a key, decoded.
    pub fn binary(&self, key: &str) -> Option<bytes::Bytes> {
        self.map.get_bin(key)?.to_bytes().ok()
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// All of `other` over what is here.
    pub(crate) fn extend(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        let mut headers = std::mem::take(&mut self.map).into_headers();
        for (key, value) in other.map.as_ref() {
            headers.insert(key, value.clone());
        }
        self.map = MetadataMap::from_headers(headers);
    }

    pub(crate) fn into_map(self) -> MetadataMap {
        self.map
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if key.is_empty() {
        return Err(wrong(key, "it is empty"));
    }
    if !key.bytes().all(allowed) {
        return Err(wrong(key, "only lower-case letters, digits, `-`, `_` and `.` are allowed"));
    }
    let reserved = key.starts_with("grpc-") || matches!(key, "te" | "content-type" | "user-agent" | "host");
    if reserved { Err(wrong(key, "it belongs to gRPC itself")) } else { Ok(()) }
}

fn wrong(key: &str, rule: &str) -> Error {
    Error::config(format!("metadata key `{key}`: {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_with_the_key() {
        let mut metadata = Metadata::default();
        for (key, rule) in [
            ("", "it is empty"),
            ("Upper", "only lower-case letters"),
            ("a b", "only lower-case letters"),
            ("grpc-timeout", "belongs to gRPC"),
            ("te", "belongs to gRPC"),
            ("key-bin", "the ending `-bin` is for binary values"),
        ] {
            let message = metadata.set(key, "value").unwrap_err().message;
            assert!(message.contains(rule) && message.contains(&format!("`{key}`")), "{message}");
        }
        assert!(metadata.set("key", "caf\u{e9}").unwrap_err().message.contains("not printable ASCII"));
        assert!(metadata.set_binary("key", b"x").unwrap_err().message.contains("must end with `-bin`"));
        assert!(metadata.is_empty());
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let (mut base, mut over) = (Metadata::default(), Metadata::default());
        base.set("a", "1").unwrap();
        base.set("b", "1").unwrap();
        over.set("b", "2").unwrap();
        over.set_binary("c-bin", &[0, 255]).unwrap();
        base.extend(&over);
        assert_eq!((base.ascii("a"), base.ascii("b")), (Some("1"), Some("2")));
        assert_eq!(base.binary("c-bin").unwrap(), [0, 255].as_slice());
    }

    #[test]
    fn a_timeout_is_rounded_up_and_has_eight_digits() {
        let written = |timeout| {
            let mut metadata = Metadata::default();
            metadata.set_timeout(timeout);
            metadata.ascii("grpc-timeout").unwrap().to_owned()
        };
        assert_eq!(written(Duration::from_secs(30)), "30000m");
        assert_eq!(written(Duration::from_nanos(1)), "1m");
        assert_eq!(written(Duration::from_secs(1_000_000)), "1000000S");
        assert_eq!(written(Duration::MAX), "99999999S");
    }

    #[test]
    fn an_api_key_is_checked() {
        let mut metadata = Metadata::default();
        metadata.set_api_key("  secret\n").unwrap();
        assert_eq!(metadata.ascii("authorization"), Some("Bearer secret"));
        metadata.set_api_key("two words").unwrap();
        assert_eq!(metadata.ascii("authorization"), Some("Bearer two words"));
        for (key, why) in [("two\nlines", "control characters"), (" ", "empty")] {
            let message = metadata.set_api_key(key).unwrap_err().message;
            assert!(
                message.contains(why) && !message.contains("two"),
                "a secret is never printed: {message}"
            );
        }
    }

    #[test]
    fn lenient_is_whatever_a_header_can_be() {
        let mut metadata = Metadata::default();
        for key in ["a!b", "grpc-timeout", "te", "host", "a.b"] {
            metadata.set_lenient(key, "caf\u{e9}\tx").unwrap();
            metadata.set_binary_lenient(&format!("{key}-bin"), b"x").unwrap();
        }
        for (key, value) in [("", "x"), ("a b", "x"), ("a-bin", "x"), ("a", "x\ny")] {
            assert!(metadata.set_lenient(key, value).is_err(), "{key}: {value}");
        }
        assert!(metadata.set_binary_lenient("a", b"x").is_err());
    }
}
