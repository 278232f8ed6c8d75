//! Profiles: how to connect, read from the file and the environment variables that users of Temporal already have.
//! Reading is pure (text and a map in, a [`Profile`] out); only [`load`] and [`ClientOptions::from_profile`] touch
//! the machine. What codec and namespace are for is the caller's affair.

mod environment;
mod file;
mod problem;

use std::{collections::BTreeMap, path::PathBuf};

pub use environment::default_path;
pub use file::parse;
pub use problem::{Problem, UnknownKey, Wanted};

use crate::{ClientOptions, Error, TlsIdentity, TlsOptions};

/// Where to connect when nothing says so.
const ADDRESS_DEFAULT: &str = "localhost:7233";
/// The profile when nothing names one.
const PROFILE_DEFAULT: &str = "default";

/// A named set of connection settings. What is `None` was not said; what is empty was taken away again, and connects as
/// if it had not been said.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// `address`, `TEMPORAL_ADDRESS`
    pub address: Option<String>,
    /// `namespace`, `TEMPORAL_NAMESPACE`
    pub namespace: Option<String>,
    /// `api_key`, `TEMPORAL_API_KEY`: implies TLS.
    pub api_key: Option<String>,
    /// `[tls]`, `TEMPORAL_TLS…`: being there at all turns TLS on.
    pub tls: Option<ProfileTls>,
    /// `[codec]`, `TEMPORAL_CODEC_…`
    pub codec: Option<ProfileCodec>,
    /// `[grpc_meta]`, `TEMPORAL_GRPC_META_…`: keys in lower case, with `-` for `_`.
    pub grpc_meta: BTreeMap<String, String>,
}

/// TLS settings of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileTls {
    /// `disabled`; `TEMPORAL_TLS` says the opposite.
    pub disabled: Option<bool>,
    /// `client_cert_path` or `client_cert_data`
    pub client_cert: Option<Source>,
    /// `client_key_path` or `client_key_data`
    pub client_key: Option<Source>,
    /// `server_ca_cert_path` or `server_ca_cert_data`
    pub server_ca_cert: Option<Source>,
    /// `server_name`
    pub server_name: Option<String>,
    /// `disable_host_verification`: see [`TlsOptions::verification_disabled`].
    pub disable_host_verification: Option<bool>,
}

/// A remote codec, used by the language's data converter.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProfileCodec {
    /// `endpoint`
    pub endpoint: Option<String>,
    /// `auth`
    pub auth: Option<String>,
}

/// Where a PEM is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// In this file.
    Path(PathBuf),
    /// Here.
    Data(String),
}

impl Source {
    /// Whether it says nothing.
    fn is_empty(&self) -> bool {
        match self {
            Self::Path(path) => path.as_os_str().is_empty(),
            Self::Data(data) => data.is_empty(),
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Data(_) => f.write_str("Data(..)"),
        }
    }
}

impl std::fmt::Debug for ProfileCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProfileCodec").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Secrets are left out.
impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile")
            .field("address", &self.address)
            .field("namespace", &self.namespace)
            .field("api_key", &self.api_key.is_some())
            .field("tls", &self.tls)
            .field("codec", &self.codec)
            .field("grpc_meta", &self.grpc_meta.keys())
            .finish()
    }
}

/// What to read, and how strictly.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The profile; `None`: `TEMPORAL_PROFILE`, or `default`.
    pub profile: Option<String>,
    /// The file; `None`: `TEMPORAL_CONFIG_FILE`, or Temporal's default place, where it may be missing.
    pub file: Option<PathBuf>,
    /// Keys of the file that nobody knows are errors.
    pub strict: bool,
    /// Read no file.
    pub no_file: bool,
    /// Read no environment variables.
    pub no_environment: bool,
}

/// Reads the profile this machine is set up for: the file, and the environment over it.
///
/// ```no_run
/// use outlast_client::{Client, ClientOptions, envconfig};
///
/// # async fn demo() -> Result<(), outlast_client::Error> {
/// let profile = envconfig::load(&envconfig::LoadOptions::default())?;
/// let client = Client::connect(ClientOptions::from_profile(&profile)?).await?;
/// # let _ = client; Ok(()) }
/// ```
pub fn load(options: &LoadOptions) -> Result<Profile, Error> {
    let environment =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let environment: BTreeMap<String, String> = environment.collect();
    load_with(options, &environment, |path| match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Error::config(format!("cannot read {}: {error}", path.display())).with_source(error))
        }
    })
}

/// As [`load`], with the environment and the files as arguments; `read` gives `None` for a file that is not there.
pub fn load_with(
    options: &LoadOptions,
    environment: &BTreeMap<String, String>,
    read: impl Fn(&std::path::Path) -> Result<Option<String>, Error>,
) -> Result<Profile, Error> {
    let nothing = BTreeMap::new();
    let environment = if options.no_environment { &nothing } else { environment };
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let named_file = options.file.clone().or_else(|| variable("TEMPORAL_CONFIG_FILE").map(PathBuf::from));
    let path = named_file.clone().or_else(|| default_path(environment)).filter(|_| !options.no_file);
    let text = path.as_deref().map(read).transpose()?.flatten();
    if let (None, Some(file), false) = (&text, &named_file, options.no_file) {
        return Err(Error::config(format!("the profile file {} does not exist", file.display())));
    }
    let mut profiles = parse(text.as_deref().unwrap_or_default(), options.strict)?;
    let named_profile = options.profile.as_ref().or_else(|| variable("TEMPORAL_PROFILE"));
    let name = named_profile.map_or(PROFILE_DEFAULT, String::as_str);
    let mut profile = match (profiles.remove(name), named_profile) {
        (Some(profile), _) => profile,
        (None, None) => Profile::default(),
        (None, Some(name)) => {
            let known = profiles.into_keys().collect();
            return Err(Problem::NoProfile { name: name.clone(), known }.into());
        }
    };
    profile.apply(environment)?;
    Ok(profile)
}

impl ClientOptions {
    /// The options that a profile describes. Files it names are read now.
    pub fn from_profile(profile: &Profile) -> Result<Self, Error> {
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut options = Self::new(said(&profile.address).as_deref().unwrap_or(ADDRESS_DEFAULT).parse()?);
        options.api_key = said(&profile.api_key);
        if let Some(tls) = &profile.tls {
            options.tls_disabled = tls.disabled == Some(true);
            options.tls = if options.tls_disabled { None } else { Some(tls_options(tls)?) };
        }
        for (key, value) in &profile.grpc_meta {
            options.metadata.set(key, value)?;
        }
        Ok(options)
    }
}

fn tls_options<'a>(tls: &'a ProfileTls) -> Result<TlsOptions, Error> {
    let said = |source: &'a Option<Source>| source.as_ref().filter(|source| !source.is_empty());
    let identity = match (said(&tls.client_cert), said(&tls.client_key)) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(TlsIdentity { certificate: pem(cert)?, key: pem(key)? }),
        (Some(_), None) => return Err(Error::config("tls.client_cert is set, but tls.client_key is not")),
        (None, Some(_)) => return Err(Error::config("tls.client_key is set, but tls.client_cert is not")),
    };
    let ca = said(&tls.server_ca_cert).map(pem).transpose()?;
    let server_name = tls.server_name.clone().filter(|name| !name.is_empty());
    let verification_disabled = tls.disable_host_verification == Some(true);
    Ok(TlsOptions { ca, identity, server_name, certificate_name: None, verification_disabled })
}

fn pem(source: &Source) -> Result<Vec<u8>, Error> {
    match source {
        Source::Data(text) => Ok(text.clone().into_bytes()),
        Source::Path(path) => std::fs::read(path)
            .map_err(|e| Error::config(format!("cannot read {}: {e}", path.display())).with_source(e)),
    }
}

/// Metadata keys are one key however they are written.
fn meta_key(key: &str) -> String {
    key.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests;
