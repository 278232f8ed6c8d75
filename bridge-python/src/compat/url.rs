//! URLs as browsers read them: users of the package write more than `http://host:port`. What is wrong is said in the words
//! that they know.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What was read.
#[derive(Debug)]
pub struct Url {
    /// In small letters.
    pub scheme: String,
    /// `user:password@`, or nothing.
    user: String,
    /// Without escapes; an IPv6 address with its brackets.
    pub host: String,
    pub port: Option<u16>,
    /// Path, query and fragment.
    tail: String,
}

const RELATIVE: &str = "relative URL without a base";
const BAD_NAME: &str = "invalid international domain name";

impl Url {
    /// Reads a URL that has a host.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let text: String = text.trim().chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
        let (scheme, rest) = scheme(&text).ok_or(RELATIVE)?;
        // In these any number of slashes, leaning either way, stands before the host.
        let web = matches!(&*scheme, "http" | "https" | "ws" | "wss" | "ftp");
        let slash = |c: char| c == '/' || (web && c == '\\');
        let rest = match web {
            true => rest.trim_start_matches(slash),
            false => rest.strip_prefix("//").ok_or(RELATIVE)?,
        };
        let end = rest.find(|c| slash(c) || matches!(c, '?' | '#')).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (user, place) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let (host, port) = match place.strip_prefix('[') {
            Some(inner) => {
                let (host, port) = inner.split_once(']').ok_or("invalid IPv6 address")?;
                host.parse::<Ipv6Addr>().map_err(|_| "invalid IPv6 address")?;
                (format!("[{host}]"), port.strip_prefix(':').unwrap_or_default())
            }
            None => {
                let (host, port) = place.split_once(':').unwrap_or((place, ""));
                (name(host)?, port)
            }
        };
        let port = (!port.is_empty()).then(|| digits(port).ok_or("invalid port number")).transpose()?;
        let tail = if web { tail.replace('\\', "/") } else { tail.to_owned() };
        Ok(Self { scheme, user: user.to_owned(), host, port, tail })
    }

    /// The URL with a host that is ASCII, and with escapes in place of characters that cannot stand in one.
    pub fn written(&self, ascii_host: &str) -> String {
        let Self { scheme, user, port, tail, .. } = self;
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{scheme}://{}{ascii_host}{port}{}", escaped(user), escaped(tail))
    }
}

/// The scheme of a URL, and what follows its colon.
pub fn scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    named.then(|| (scheme.to_ascii_lowercase(), rest))
}

fn digits(port: &str) -> Option<u16> {
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
}

/// A host name without escapes. An address may have a last dot as a name may, which resolvers do not take.
fn name(host: &str) -> Result<String, &'static str> {
    if host.is_empty() {
        return Err("empty host");
    }
    let host = unescaped(host).ok_or(BAD_NAME)?;
    if host.contains(|c: char| c.is_ascii_control() || " #%/:<>?@[\\]^|\"".contains(c)) {
        return Err(BAD_NAME);
    }
    let address = host.strip_suffix('.').filter(|host| host.parse::<Ipv4Addr>().is_ok());
    Ok(address.map(str::to_owned).unwrap_or(host))
}

/// With every `%41` as the byte that it stands for; a `%` that is no escape stays.
fn unescaped(host: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(host.len());
    let mut rest = host.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = |digits: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let escaped = after.first_chunk().filter(|_| *byte == b'%').and_then(hex);
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { after.get(2..)? } else { after };
    }
    String::from_utf8(bytes).ok()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c) {
            escaped.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, host, port, written) in [
            ("http://localhost:7233", "localhost", Some(7233), "http://localhost:7233"),
            ("HTTPS://a.b.example", "a.b.example", None, "https://a.b.example"),
            (" http://10.0.0.1:80/ \n", "10.0.0.1", Some(80), "http://10.0.0.1:80/"),
            ("http://u:p@a:1/x y?q#f", "a", Some(1), "http://u:p@a:1/x%20y?q#f"),
            ("http:\\\\a:1\\x", "a", Some(1), "http://a:1/x"),
            ("http:///a", "a", None, "http://a"),
            ("http:a", "a", None, "http://a"),
            ("http://[::1]:4317/v1/metrics", "[::1]", Some(4317), "http://[::1]:4317/v1/metrics"),
            ("http://%6cocalhost:007", "localhost", Some(7), "http://localhost:7"),
            ("http://127.0.0.1.:1/\u{e9}", "127.0.0.1", Some(1), "http://127.0.0.1:1/%C3%A9"),
            ("grpc://a:1", "a", Some(1), "grpc://a:1"),
        ] {
            let url = Url::read(text).unwrap();
            assert_eq!(
                (&*url.host, url.port, url.written(&url.host)),
                (host, port, written.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("nope", RELATIVE),
            ("", RELATIVE),
            ("127.0.0.1:4317", RELATIVE),
            ("://a:1", RELATIVE),
            ("grpc:a", RELATIVE),
            ("http://", "empty host"),
            ("http://a b", BAD_NAME),
            ("http://a%20b:1", BAD_NAME),
            ("http://a:1:2", "invalid port number"),
            ("http://a:+1", "invalid port number"),
            ("http://a:99999/", "invalid port number"),
            ("http://[::1", "invalid IPv6 address"),
        ] {
            assert_eq!(Url::read(text).unwrap_err(), why, "{text}");
        }
    }
}
