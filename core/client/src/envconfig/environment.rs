//! The environment variables, given as a map: what they change in a profile, and where they say its file is.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Problem, Profile, ProfileCodec, ProfileTls, Source, meta_key};
use crate::Error;

type Environment = BTreeMap<String, String>;

const META: &str = "TEMPORAL_GRPC_META_";

/// Where Temporal's tools keep their profiles on this kind of machine.
pub fn default_path(environment: &Environment) -> Option<PathBuf> {
    let folder = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = if cfg!(windows) {
        folder("APPDATA")?
    } else if cfg!(target_os = "macos") {
        folder("HOME")?.join("Library/Application Support")
    } else {
        folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")))?
    };
    Some(base.join("temporalio").join("temporal.toml"))
}

impl Profile {
    /// Sets what the environment says, over what is here, as Temporal's own tools do: an empty variable takes away
    /// what is here. Only an empty flag says nothing.
    pub fn apply(&mut self, environment: &Environment) -> Result<(), Error> {
        let text = |name: &str| environment.get(name).cloned();
        replace(&mut self.address, text("TEMPORAL_ADDRESS"));
        replace(&mut self.namespace, text("TEMPORAL_NAMESPACE"));
        replace(&mut self.api_key, text("TEMPORAL_API_KEY"));
        self.tls = apply_tls(self.tls.take(), environment)?;
        self.codec = apply_codec(self.codec.take(), &text);
        for (name, value) in environment {
            let Some(key) = name.strip_prefix(META).filter(|key| !key.is_empty()) else { continue };
            if value.is_empty() {
                self.grpc_meta.remove(&meta_key(key));
            } else {
                self.grpc_meta.insert(meta_key(key), value.clone());
            }
        }
        Ok(())
    }
}

/// TLS settings appear once any variable speaks of them.
fn apply_tls(tls: Option<ProfileTls>, environment: &Environment) -> Result<Option<ProfileTls>, Problem> {
    let spoken = ProfileTls {
        disabled: flag(environment, "TEMPORAL_TLS")?.map(|enabled| !enabled),
        client_cert: source(environment, "TEMPORAL_TLS_CLIENT_CERT")?,
        client_key: source(environment, "TEMPORAL_TLS_CLIENT_KEY")?,
        server_ca_cert: source(environment, "TEMPORAL_TLS_SERVER_CA_CERT")?,
        server_name: environment.get("TEMPORAL_TLS_SERVER_NAME").cloned(),
        disable_host_verification: flag(environment, "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION")?,
    };
    if tls.is_none() && spoken == ProfileTls::default() {
        return Ok(None);
    }
    let mut tls = tls.unwrap_or_default();
    replace(&mut tls.disabled, spoken.disabled);
    replace(&mut tls.client_cert, spoken.client_cert);
    replace(&mut tls.client_key, spoken.client_key);
    replace(&mut tls.server_ca_cert, spoken.server_ca_cert);
    replace(&mut tls.server_name, spoken.server_name);
    replace(&mut tls.disable_host_verification, spoken.disable_host_verification);
    Ok(Some(tls))
}

fn apply_codec(codec: Option<ProfileCodec>, text: &impl Fn(&str) -> Option<String>) -> Option<ProfileCodec> {
    let (endpoint, auth) = (text("TEMPORAL_CODEC_ENDPOINT"), text("TEMPORAL_CODEC_AUTH"));
    if codec.is_none() && endpoint.is_none() && auth.is_none() {
        return None;
    }
    let mut codec = codec.unwrap_or_default();
    replace(&mut codec.endpoint, endpoint);
    replace(&mut codec.auth, auth);
    Some(codec)
}

fn replace<T>(old: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *old = new;
    }
}

fn flag(environment: &Environment, name: &str) -> Result<Option<bool>, Problem> {
    let Some(value) = environment.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        _ => Err(Problem::Flag { name: name.into(), value: value.clone() }),
    }
}

fn source(environment: &Environment, prefix: &str) -> Result<Option<Source>, Problem> {
    let (path, data) = (format!("{prefix}_PATH"), format!("{prefix}_DATA"));
    match (environment.get(&path), environment.get(&data)) {
        (None, None) => Ok(None),
        (Some(path), None) => Ok(Some(Source::Path(path.into()))),
        (None, Some(data)) => Ok(Some(Source::Data(data.clone()))),
        (Some(_), Some(_)) => Err(Problem::Both { path, data }),
    }
}
