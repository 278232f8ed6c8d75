//! The submodule `envconfig`: profiles of the core, as the dictionaries and with the texts that the package knows.

mod text;

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use outlast_core::envconfig::{self, Profile, ProfileTls, Source};
use pyo3::create_exception;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

create_exception!(temporal_sdk_bridge, ConfigError, PyRuntimeError);

type Environment = BTreeMap<String, String>;

const INVALID: &str = "Invalid configuration: ";

#[pyfunction]
#[pyo3(signature = (path, data, config_file_strict, env_vars = None))]
fn load_client_config<'py>(
    py: Python<'py>,
    path: Option<PathBuf>,
    data: Option<Vec<u8>>,
    config_file_strict: bool,
    env_vars: Option<HashMap<String, String>>,
) -> PyResult<Bound<'py, PyDict>> {
    let text = py.detach(|| file(path, data, &environment(env_vars)))?;
    let all = PyDict::new(py);
    for (name, profile) in profiles(&text, config_file_strict)? {
        all.set_item(name, dict(py, &profile)?)?;
    }
    Ok(all)
}

#[pyfunction]
#[pyo3(signature = (profile, path, data, disable_file, disable_env, config_file_strict, env_vars = None))]
#[expect(clippy::too_many_arguments, reason = "they are those of the function that the package calls")]
fn load_client_connect_config<'py>(
    py: Python<'py>,
    profile: Option<String>,
    path: Option<PathBuf>,
    data: Option<Vec<u8>>,
    disable_file: bool,
    disable_env: bool,
    config_file_strict: bool,
    env_vars: Option<HashMap<String, String>>,
) -> PyResult<Bound<'py, PyDict>> {
    if disable_file && disable_env {
        return Err(config_error(format!("{INVALID}Cannot disable both file and environment loading")));
    }
    let mut environment = environment(env_vars);
    let mut chosen = Profile::default();
    if !disable_file {
        let text = py.detach(|| file(path, data, &environment))?;
        chosen = choose(profile, profiles(&text, config_file_strict)?, &environment, disable_env)?;
    }
    if !disable_env {
        apply(&mut chosen, &mut environment)?;
    }
    dict(py, &chosen)
}

/// What was given, or the environment of the process.
fn environment(given: Option<HashMap<String, String>>) -> Environment {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let own = || std::env::vars_os().filter_map(text).collect();
    given.map_or_else(own, |given| given.into_iter().collect())
}

/// The text of the profile file. One that is missing is an empty one. Where files are by default is told by the
/// environment of the process, whatever environment was given.
fn file(path: Option<PathBuf>, data: Option<Vec<u8>>, environment: &Environment) -> PyResult<String> {
    let bytes = match (path, data) {
        (Some(_), Some(_)) => {
            return Err(config_error("Cannot specify both path and data for config source".to_owned()));
        }
        (None, Some(data)) => data,
        (Some(path), None) => read(&path)?,
        (None, None) => {
            let named = environment.get("TEMPORAL_CONFIG_FILE").filter(|path| !path.is_empty());
            let default = || envconfig::default_path(&self::environment(None));
            named.map(PathBuf::from).or_else(default).map_or_else(|| Ok(Vec::new()), |path| read(&path))?
        }
    };
    String::from_utf8(bytes).map_err(|error| loading_error(&error.utf8_error()))
}

fn read(path: &Path) -> PyResult<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => Ok(Vec::new()),
        Err(error) => Err(loading_error(&error)),
    }
}

fn profiles(text: &str, strict: bool) -> PyResult<BTreeMap<String, Profile>> {
    envconfig::parse(text, strict).map_err(|error| config_error(text::told(&error, text, strict)))
}

/// The profile that the argument names, or the environment. Only the default one may be missing, and only if nobody
/// named it.
fn choose(
    argument: Option<String>,
    mut profiles: BTreeMap<String, Profile>,
    environment: &Environment,
    disable_env: bool,
) -> PyResult<Profile> {
    let variable = || environment.get("TEMPORAL_PROFILE").filter(|name| !name.is_empty() && !disable_env);
    let Some(name) = argument.or_else(|| variable().cloned()) else {
        return Ok(profiles.remove("default").unwrap_or_default());
    };
    profiles.remove(&name).ok_or_else(|| config_error(format!("Profile '{name}' not found")))
}

/// The environment over the profile. The core refuses a flag that is neither true nor false; here it says nothing, but
/// that there are TLS settings.
fn apply(profile: &mut Profile, environment: &mut Environment) -> PyResult<()> {
    for name in ["TEMPORAL_TLS", "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION"] {
        let Some(value) = environment.get(name) else { continue };
        profile.tls.get_or_insert_default();
        if !["true", "false", "1", "0"].contains(&value.to_ascii_lowercase().as_str()) {
            environment.remove(name);
        }
    }
    let before = profile.tls.clone().unwrap_or_default();
    profile.apply(environment).map_err(|error| config_error(text::told(&error, "", false)))?;
    let after = profile.tls.as_ref().unwrap_or(&before);
    replaced("TEMPORAL_TLS_CLIENT_CERT", "cert", &before.client_cert, &after.client_cert)?;
    replaced("TEMPORAL_TLS_CLIENT_KEY", "key", &before.client_key, &after.client_key)?;
    replaced("TEMPORAL_TLS_SERVER_CA_CERT", "server CA cert", &before.server_ca_cert, &after.server_ca_cert)
}

/// A variable may change a path or data of the file, but not put one in the place of the other.
fn replaced(variable: &str, what: &str, before: &Option<Source>, after: &Option<Source>) -> PyResult<()> {
    let text = match (before, after) {
        (Some(Source::Path(_)), Some(Source::Data(_))) => {
            format!("{what} data via {variable}_DATA when {what} path")
        }
        (Some(Source::Data(_)), Some(Source::Path(_))) => {
            format!("{what} path via {variable}_PATH when {what} data")
        }
        (None | Some(_), None | Some(_)) => return Ok(()),
    };
    Err(config_error(format!("{INVALID}Cannot specify {text} is already specified")))
}

/// A key is there only if it was said.
fn dict<'py>(py: Python<'py>, profile: &Profile) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    put(&dict, "address", profile.address.as_ref())?;
    put(&dict, "namespace", profile.namespace.as_ref())?;
    put(&dict, "api_key", profile.api_key.as_ref())?;
    put(&dict, "tls", profile.tls.as_ref().map(|tls| tls_dict(py, tls)).transpose()?)?;
    if let Some(codec) = &profile.codec {
        let inner = PyDict::new(py);
        put(&inner, "endpoint", codec.endpoint.as_ref())?;
        put(&inner, "auth", codec.auth.as_ref())?;
        dict.set_item("codec", inner)?;
    }
    put(&dict, "grpc_meta", Some(&profile.grpc_meta).filter(|meta| !meta.is_empty()))?;
    Ok(dict)
}

fn tls_dict<'py>(py: Python<'py>, tls: &ProfileTls) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("disabled", tls.disabled)?;
    for (name, source) in [
        ("client_cert", &tls.client_cert),
        ("client_key", &tls.client_key),
        ("server_ca_cert", &tls.server_ca_cert),
    ] {
        put(&dict, name, source.as_ref().map(|source| source_dict(py, source)).transpose()?)?;
    }
    put(&dict, "server_name", tls.server_name.as_ref())?;
    dict.set_item("disable_host_verification", tls.disable_host_verification == Some(true))?;
    Ok(dict)
}

fn source_dict<'py>(py: Python<'py>, source: &Source) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    match source {
        Source::Path(path) => dict.set_item("path", path.to_string_lossy())?,
        Source::Data(data) => dict.set_item("data", PyBytes::new(py, data.as_bytes()))?,
    }
    Ok(dict)
}

fn put<'py>(dict: &Bound<'py, PyDict>, key: &str, value: Option<impl IntoPyObject<'py>>) -> PyResult<()> {
    value.map_or(Ok(()), |value| dict.set_item(key, value))
}

fn loading_error(error: &dyn std::error::Error) -> PyErr {
    config_error(format!("{}{error}", text::LOADING))
}

fn config_error(text: String) -> PyErr {
    ConfigError::new_err(text)
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "envconfig")?;
    module.add("ConfigError", parent.py().get_type::<ConfigError>())?;
    module.add_function(wrap_pyfunction!(load_client_config, &module)?)?;
    module.add_function(wrap_pyfunction!(load_client_connect_config, &module)?)?;
    parent.add_submodule(&module)
}
