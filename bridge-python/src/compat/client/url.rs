//! The server that a URL names, read as browsers read URLs: users of the package write more than `http://host:port`.

use std::net::Ipv6Addr;

use outlast_core::Target;

/// Where to connect.
#[derive(Debug)]
pub struct Server {
    pub target: Target,
    /// It is neither http nor https: TLS was not asked for, nor decided against.
    pub unknown_scheme: bool,
}

const RELATIVE: &str = "relative URL without a base";
const BAD_NAME: &str = "invalid international domain name";

/// Path, query and user are of no use here, and do not matter.
pub fn server(url: &str) -> Result<Server, &'static str> {
    let url: String = url.trim().chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
    let (scheme, rest) = url.split_once("://").ok_or(RELATIVE)?;
    let scheme = scheme.to_ascii_lowercase();
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !named {
        return Err(RELATIVE);
    }
    let (tls, unknown_scheme) = (scheme == "https", !matches!(&*scheme, "http" | "https"));
    let rest = if unknown_scheme { rest } else { rest.trim_start_matches(['/', '\\']) };
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
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
    let usual = if tls { 443 } else { 80 };
    let port = if port.is_empty() { Ok(usual) } else { digits(port) };
    let port = port.map_err(|()| "invalid port number")?;
    let scheme = if tls { "https" } else { "http" };
    let target = format!("{scheme}://{host}:{port}").parse().map_err(|_| "invalid port number")?;
    Ok(Server { target, unknown_scheme })
}

fn digits(port: &str) -> Result<u16, ()> {
    let only_digits = port.bytes().all(|byte| byte.is_ascii_digit());
    if only_digits { port.parse().map_err(|_| ()) } else { Err(()) }
}

/// A host name without escapes. An address may have a last dot as a name may, which resolvers do not take.
fn name(host: &str) -> Result<String, &'static str> {
    if host.is_empty() {
        return Err("empty host");
    }
    let host = unescaped(host).ok_or(BAD_NAME)?;
    let forbidden = |c: char| c.is_ascii_control() || " #%/:<>?@[\\]^|\"".contains(c);
    if host.contains(forbidden) {
        return Err(BAD_NAME);
    }
    let without_dot = host.strip_suffix('.').filter(|host| host.parse::<std::net::Ipv4Addr>().is_ok());
    Ok(without_dot.map_or(host.clone(), str::to_owned))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (url, target) in [
            ("http://localhost:7233", "http://localhost:7233"),
            ("HTTPS://a.b.example", "https://a.b.example:443"),
            (" http://10.0.0.1:80/ \n", "http://10.0.0.1:80"),
            ("http://user:pw@a:1/path?q#f", "http://a:1"),
            ("http:////a:1\\x", "http://a:1"),
            ("http://[::1]:7233", "http://[::1]:7233"),
            ("http://%6cocalhost:007", "http://localhost:7"),
            ("http://127.0.0.1.:1", "http://127.0.0.1:1"),
            ("http://b\u{fc}cher.example", "http://xn--bcher-kva.example:80"),
            ("grpc://a:1", "http://a:1"),
        ] {
            assert_eq!(server(url).unwrap().target.to_string(), target, "{url}");
        }
        assert!(server("grpc://a:1").unwrap().unknown_scheme);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, why) in [
            ("nope", RELATIVE),
            ("://a:1", RELATIVE),
            ("http://", "empty host"),
            ("http://a b:1", BAD_NAME),
            ("http://a%20b:1", BAD_NAME),
            ("http://a:1:2", "invalid port number"),
            ("http://a:+1", "invalid port number"),
            ("http://a:99999", "invalid port number"),
            ("http://[::1", "invalid IPv6 address"),
        ] {
            assert_eq!(server(url).unwrap_err(), why, "{url}");
        }
    }
}
