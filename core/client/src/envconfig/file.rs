//! The profile file: TOML, one table per profile. Every key is taken out of its table by name; what then is left is
//! unknown, which is an error when reading strictly.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::problem::{Problem, UnknownKey, Wanted};
use super::{Profile, ProfileCodec, ProfileTls, Source, meta_key};
use crate::Error;

/// Reads all profiles of a file. The error's source is a [`Problem`].
///
/// ```
/// let text = "[profile.prod]\naddress = 'temporal.example.com:7233'\n[profile.prod.grpc_meta]\nTenant_Name = 'blue'";
/// let profiles = outlast_client::envconfig::parse(text, true)?;
/// assert_eq!(profiles["prod"].address.as_deref(), Some("temporal.example.com:7233"));
/// assert_eq!(profiles["prod"].grpc_meta["tenant-name"], "blue");
/// # Ok::<(), outlast_client::Error>(())
/// ```
pub fn parse(text: &str, strict: bool) -> Result<BTreeMap<String, Profile>, Error> {
    Ok(read(text, strict)?)
}

const TLS: &[&str] = &[
    "disabled",
    "client_cert_path",
    "client_cert_data",
    "client_key_path",
    "client_key_data",
    "server_ca_cert_path",
    "server_ca_cert_data",
    "server_name",
    "disable_host_verification",
];

fn read(text: &str, strict: bool) -> Result<BTreeMap<String, Profile>, Problem> {
    let table = DeTable::parse(text).map_err(|e| syntax(text, &e))?.into_inner();
    let (mut unknown, mut all) = (Vec::new(), BTreeMap::new());
    let mut root = Fields { path: Vec::new(), table };
    if let Some(mut profiles) = root.table("profile", Wanted::Profiles)? {
        let names: Vec<String> = profiles.table.keys().map(|name| name.get_ref().to_string()).collect();
        for name in names {
            let Some(fields) = profiles.table(&name, Wanted::Profile)? else { continue };
            all.insert(name, profile(fields, &mut unknown)?);
        }
    }
    root.rest(&["profile"], &mut unknown);
    if strict && !unknown.is_empty() {
        unknown.sort_by(|a, b| a.path.cmp(&b.path));
        return Err(Problem::Unknown(unknown));
    }
    Ok(all)
}

fn profile(mut fields: Fields<'_>, unknown: &mut Vec<UnknownKey>) -> Result<Profile, Problem> {
    let profile = Profile {
        address: fields.text("address")?,
        namespace: fields.text("namespace")?,
        api_key: fields.text("api_key")?,
        tls: fields.table("tls", Wanted::Tls)?.map(|table| tls(table, unknown)).transpose()?,
        codec: fields.table("codec", Wanted::Codec)?.map(|table| codec(table, unknown)).transpose()?,
        grpc_meta: fields.table("grpc_meta", Wanted::Meta)?.map(meta).transpose()?.unwrap_or_default(),
    };
    fields.rest(&["address", "namespace", "api_key", "tls", "codec", "grpc_meta"], unknown);
    Ok(profile)
}

fn tls(mut fields: Fields<'_>, unknown: &mut Vec<UnknownKey>) -> Result<ProfileTls, Problem> {
    let tls = ProfileTls {
        disabled: fields.flag("disabled")?,
        client_cert: fields.source("client_cert")?,
        client_key: fields.source("client_key")?,
        server_ca_cert: fields.source("server_ca_cert")?,
        server_name: fields.text("server_name")?,
        disable_host_verification: fields.flag("disable_host_verification")?,
    };
    fields.rest(TLS, unknown);
    Ok(tls)
}

fn codec(mut fields: Fields<'_>, unknown: &mut Vec<UnknownKey>) -> Result<ProfileCodec, Problem> {
    let codec = ProfileCodec { endpoint: fields.text("endpoint")?, auth: fields.text("auth")? };
    fields.rest(&["endpoint", "auth"], unknown);
    Ok(codec)
}

fn meta(mut fields: Fields<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let names: Vec<String> = fields.table.keys().map(|name| name.get_ref().to_string()).collect();
    let entry = |name: String| Ok((meta_key(&name), fields.text(&name)?.unwrap_or_default()));
    names.into_iter().map(entry).collect()
}

/// A table whose known keys are taken out one by one.
struct Fields<'a> {
    path: Vec<String>,
    table: DeTable<'a>,
}

impl<'a> Fields<'a> {
    fn path(&self, key: &str) -> Vec<String> {
        self.path.iter().map(String::as_str).chain([key]).map(str::to_owned).collect()
    }

    /// The value of a key, if `take` finds in it what is wanted.
    fn field<T>(
        &mut self,
        key: &str,
        wanted: Wanted,
        take: impl FnOnce(DeValue<'a>) -> Result<T, DeValue<'a>>,
    ) -> Result<Option<T>, Problem> {
        let Some((_, value)) = self.table.remove_entry(key) else { return Ok(None) };
        let at = value.span();
        let mistyped = |value| {
            let name = self.path(key).join(".");
            Problem::Mistyped { at, name, wanted, found: found(&value) }
        };
        take(value.into_inner()).map(Some).map_err(mistyped)
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, Problem> {
        self.field(key, Wanted::Text, |value| value.as_str().map(str::to_owned).ok_or(value))
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, Problem> {
        self.field(key, Wanted::Flag, |value| value.as_bool().ok_or(value))
    }

    fn table(&mut self, key: &str, wanted: Wanted) -> Result<Option<Self>, Problem> {
        let path = self.path(key);
        self.field(key, wanted, |value| {
            let DeValue::Table(table) = value else { return Err(value) };
            Ok(Self { path, table })
        })
    }

    fn source(&mut self, key: &str) -> Result<Option<Source>, Problem> {
        let (path, data) = (format!("{key}_path"), format!("{key}_data"));
        match (self.text(&path)?, self.text(&data)?) {
            (None, None) => Ok(None),
            (Some(path), None) => Ok(Some(Source::Path(path.into()))),
            (None, Some(data)) => Ok(Some(Source::Data(data)).filter(|source| !source.is_empty())),
            (Some(_), Some(_)) => {
                let name = |key: &str| self.path(key).join(".");
                Err(Problem::Both { path: name(&path), data: name(&data) })
            }
        }
    }

    fn rest(self, known: &'static [&'static str], unknown: &mut Vec<UnknownKey>) {
        let key = |key: &toml::Spanned<toml::de::DeString<'_>>| UnknownKey {
            path: self.path(key.get_ref()),
            at: key.span(),
            known,
        };
        unknown.extend(self.table.keys().map(key));
    }
}

/// A value in a few words.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("string {text:?}"),
        DeValue::Integer(number) => format!("integer `{}`", number.as_str()),
        DeValue::Float(number) => format!("floating point `{}`", number.as_str()),
        DeValue::Boolean(flag) => format!("boolean `{flag}`"),
        DeValue::Array(_) => "sequence".into(),
        // A date is read as a table of its parts.
        DeValue::Datetime(_) | DeValue::Table(_) => "map".into(),
    }
}

/// Where and what, but not the line itself: it may hold a secret.
fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let at = error.span().unwrap_or_default();
    let before = text.as_bytes().iter().take(at.start);
    let line = before.filter(|byte| **byte == b'\n').count() + 1;
    Problem::Syntax { at, line, message: error.message().to_owned() }
}
