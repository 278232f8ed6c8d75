//! The profile file: TOML, one table per profile. Every key is taken out of its table by name; what then is left is
//! unknown, which is an error when reading strictly.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{Profile, ProfileCodec, ProfileTls, Source, meta_key};
use crate::Error;

/// Reads all profiles of a file.
///
/// ```
/// let text = "[profile.prod]\naddress = 'temporal.example.com:7233'\n[profile.prod.grpc_meta]\nTenant_Name = 'blue'";
/// let profiles = outlast_client::envconfig::parse(text, true)?;
/// assert_eq!(profiles["prod"].address.as_deref(), Some("temporal.example.com:7233"));
/// assert_eq!(profiles["prod"].grpc_meta["tenant-name"], "blue");
/// # Ok::<(), outlast_client::Error>(())
/// ```
pub fn parse(text: &str, strict: bool) -> Result<BTreeMap<String, Profile>, Error> {
    let root: Table = text.parse().map_err(|e| syntax(text, &e))?;
    let mut unknown = Vec::new();
    let mut root = Fields { path: String::new(), table: root };
    let profiles = root.table("profile")?.unwrap_or_default();
    root.rest(&mut unknown);
    let mut all = BTreeMap::new();
    for (name, value) in profiles.table {
        let path = format!("profile.{name}");
        let Value::Table(table) = value else { return Err(mistyped(&path, "a table")) };
        all.insert(name, profile(Fields { path, table }, &mut unknown)?);
    }
    if strict && !unknown.is_empty() {
        return Err(Error::config(format!("the profile file has unknown keys: {}", unknown.join(", "))));
    }
    Ok(all)
}

fn profile(mut fields: Fields, unknown: &mut Vec<String>) -> Result<Profile, Error> {
    let profile = Profile {
        address: fields.text("address")?,
        namespace: fields.text("namespace")?,
        api_key: fields.text("api_key")?,
        tls: fields.table("tls")?.map(|table| tls(table, unknown)).transpose()?,
        codec: fields.table("codec")?.map(|table| codec(table, unknown)).transpose()?,
        grpc_meta: fields.table("grpc_meta")?.map(meta).transpose()?.unwrap_or_default(),
    };
    fields.rest(unknown);
    Ok(profile)
}

fn tls(mut fields: Fields, unknown: &mut Vec<String>) -> Result<ProfileTls, Error> {
    let tls = ProfileTls {
        disabled: fields.flag("disabled")?,
        client_cert: fields.source("client_cert")?,
        client_key: fields.source("client_key")?,
        server_ca_cert: fields.source("server_ca_cert")?,
        server_name: fields.text("server_name")?,
        disable_host_verification: fields.flag("disable_host_verification")?,
    };
    fields.rest(unknown);
    Ok(tls)
}

fn codec(mut fields: Fields, unknown: &mut Vec<String>) -> Result<ProfileCodec, Error> {
    let codec = ProfileCodec { endpoint: fields.text("endpoint")?, auth: fields.text("auth")? };
    fields.rest(unknown);
    Ok(codec)
}

fn meta(fields: Fields) -> Result<BTreeMap<String, String>, Error> {
    let path = fields.path;
    let entry = |(key, value): (String, Value)| match value {
        Value::String(text) => Ok((meta_key(&key), text)),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::Table(_) => Err(mistyped(&format!("{path}.{key}"), "a string")),
    };
    fields.table.into_iter().map(entry).collect()
}

/// A table whose known keys are taken out one by one.
#[derive(Default)]
struct Fields {
    path: String,
    table: Table,
}

impl Fields {
    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, Error> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(_) => Err(mistyped(&self.name(key), "a string")),
        }
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, Error> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(_) => Err(mistyped(&self.name(key), "true or false")),
        }
    }

    fn table(&mut self, key: &str) -> Result<Option<Self>, Error> {
        let path = self.name(key);
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(Self { path, table })),
            Some(_) => Err(mistyped(&path, "a table")),
        }
    }

    fn source(&mut self, key: &str) -> Result<Option<Source>, Error> {
        let (path, data) = (self.text(&format!("{key}_path"))?, self.text(&format!("{key}_data"))?);
        match (path, data) {
            (None, None) => Ok(None),
            (Some(path), None) => Ok(Some(Source::Path(path.into()))),
            (None, Some(data)) => Ok(Some(Source::Data(data))),
            (Some(_), Some(_)) => {
                let name = self.name(key);
                Err(Error::config(format!("{name}_path and {name}_data are both set; set one")))
            }
        }
    }

    fn rest(self, unknown: &mut Vec<String>) {
        unknown.extend(self.table.keys().map(|key| self.name(key)));
    }
}

fn mistyped(name: &str, wanted: &str) -> Error {
    Error::config(format!("the profile file's `{name}` must be {wanted}"))
}

/// Where and what, but not the line itself: it may hold a secret.
fn syntax(text: &str, error: &toml::de::Error) -> Error {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    Error::config(format!("the profile file is not TOML, line {line}: {}", error.message()))
}
