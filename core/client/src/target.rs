//! Where to connect, read from what people write. Names are not looked up here.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::{Error, punycode};

/// The address of a server: `host:port`, `http://host:port` or `https://host:port`.
///
/// ```
/// use outlast_client::Target;
///
/// let target: Target = "https://temporal.example.com:7233".parse()?;
/// assert_eq!((target.host(), target.port(), target.tls()), ("temporal.example.com", 7233, Some(true)));
/// assert_eq!("localhost:7233".parse::<Target>()?.tls(), None);
/// # Ok::<(), outlast_client::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    tls: Option<bool>,
}

impl Target {
    /// The host name or address, an IPv6 address without its brackets. A name that is not ASCII is here as resolvers know it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the scheme says about TLS; `None` when there was no scheme.
    pub fn tls(&self) -> Option<bool> {
        self.tls
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether traffic stays on this machine, as far as the name tells.
    pub(crate) fn is_loopback(&self) -> bool {
        let localhost = self.host.eq_ignore_ascii_case("localhost");
        localhost || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// `host:port`, with the brackets an IPv6 address needs.
    pub(crate) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.tls {
            Some(true) => "https://",
            Some(false) => "http://",
            None => "",
        };
        write!(f, "{scheme}{}", self.authority())
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text == "memory:" || text.starts_with("sqlite:") {
            return Err(Error::config(format!(
                "`{text}` needs the embedded server, which this build does not have; \
                 connect to host:port, or build with the feature `embedded`"
            )));
        }
        let (tls, rest) = match text.split_once("://") {
            None => (None, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(false), rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(true), rest),
            Some((scheme, _)) => {
                return Err(wrong(text, &format!("scheme `{scheme}` is neither http nor https")));
            }
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split(rest).map_err(|why| wrong(text, why))?;
        let host = punycode::ascii_host(host).ok_or_else(|| wrong(text, "the host is not a name"))?;
        Ok(Self { host, port, tls })
    }
}

fn split(rest: &str) -> Result<(&str, u16), &'static str> {
    const BRACKETS: &str = "an IPv6 address is written [address]:port";
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (host, port) = inner.split_once("]:").ok_or(BRACKETS)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| BRACKETS)?;
            (host, port)
        }
        None => rest.rsplit_once(':').ok_or("the port is missing")?,
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.contains(':') && !rest.starts_with('[') {
        return Err(BRACKETS);
    }
    if host.contains(['/', '@', '?', '#']) || host.contains(char::is_whitespace) {
        return Err("only host and port may be given, no path, user or query");
    }
    let port = port.parse::<u16>().map_err(|_| "the port is not a number from 1 to 65535")?;
    if port == 0 { Err("the port is not a number from 1 to 65535") } else { Ok((host, port)) }
}

fn wrong(text: &str, why: &str) -> Error {
    Error::config(format!(
        "cannot connect to `{text}`: {why}; write host:port, http://host:port or https://host:port"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        text.parse::<Target>()
            .map(|t| format!("{} {} {:?}", t.host(), t.port(), t.tls()))
            .map_err(|e| e.message)
    }

    #[test]
    fn what_people_write() {
        assert_eq!(parse("localhost:7233").unwrap(), "localhost 7233 None");
        assert_eq!(parse(" http://10.0.0.1:80/ ").unwrap(), "10.0.0.1 80 Some(false)");
        assert_eq!(parse("HTTPS://a.b.example:443").unwrap(), "a.b.example 443 Some(true)");
        assert_eq!(parse("[::1]:7233").unwrap(), "::1 7233 None");
        assert_eq!(parse("b\u{fc}cher.example:7233").unwrap(), "xn--bcher-kva.example 7233 None");
        assert_eq!("https://[::1]:7233".parse::<Target>().unwrap().to_string(), "https://[::1]:7233");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("localhost", "the port is missing"),
            (":7233", "the host is missing"),
            ("localhost:0", "1 to 65535"),
            ("localhost:99999", "1 to 65535"),
            ("::1:7233", "[address]:port"),
            ("ftp://a:1", "scheme `ftp`"),
            ("https://user@a:1", "no path, user or query"),
            ("http://a:1/path", "1 to 65535"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(why) && message.contains(text), "{text}: {message}");
        }
    }

    #[test]
    fn embedded_targets_say_what_they_need() {
        for text in ["memory:", "sqlite:orders.db"] {
            let message = parse(text).unwrap_err();
            assert!(
                message.contains("needs the embedded server, which this build does not have"),
                "{message}"
            );
        }
    }
}
