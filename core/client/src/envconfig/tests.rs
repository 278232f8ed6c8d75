//! What a file and an environment make of a profile.

use std::{collections::BTreeMap, path::Path};

use super::*;

const FILE: &str = r#"
[profile.default]
address = "file:7233"
namespace = "from-file"
[profile.default.grpc_meta]
Some_Header = "file"
other = "file"

[profile.cloud]
address = "cloud:7233"
api_key = "secret"
[profile.cloud.tls]
server_name = "inner.example.com"
client_cert_path = "/cert.pem"
client_key_data = "KEY"
[profile.cloud.codec]
endpoint = "https://codec"
auth = "token"

[profile.clear]
api_key = "secret"
[profile.clear.tls]
disabled = true
"#;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let home = if cfg!(windows) { ("APPDATA", "/home/me") } else { ("HOME", "/home/me") };
    pairs.iter().chain([&home]).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Loads with `FILE` at the default place of a Linux machine, and nothing else on the disk.
fn loaded(pairs: &[(&str, &str)], options: &LoadOptions) -> Result<Profile, String> {
    let environment = environment(pairs);
    let place = default_path(&environment).unwrap();
    let read = |path: &Path| Ok((path == place).then(|| FILE.to_owned()));
    load_with(options, &environment, read).map_err(|e| e.message)
}

fn named(profile: &str) -> LoadOptions {
    LoadOptions { profile: Some(profile.into()), ..LoadOptions::default() }
}

#[test]
fn the_default_profile_of_the_file() {
    let profile = loaded(&[], &LoadOptions::default()).unwrap();
    assert_eq!(
        (profile.address.as_deref(), profile.namespace.as_deref()),
        (Some("file:7233"), Some("from-file"))
    );
    assert_eq!(profile.grpc_meta["some-header"], "file");
    assert_eq!(profile.tls, None);
}

#[test]
fn the_environment_goes_over_the_file() {
    let variables = [
        ("TEMPORAL_ADDRESS", "env:1"),
        ("TEMPORAL_NAMESPACE", ""),
        ("TEMPORAL_GRPC_META_SOME_HEADER", "env"),
        ("TEMPORAL_GRPC_META_OTHER", ""),
        ("TEMPORAL_TLS_SERVER_NAME", "name"),
        ("TEMPORAL_CODEC_ENDPOINT", "http://codec"),
    ];
    let profile = loaded(&variables, &LoadOptions::default()).unwrap();
    assert_eq!(
        (profile.address.as_deref(), profile.namespace.as_deref()),
        (Some("env:1"), Some("")),
        "empty takes away"
    );
    assert_eq!(profile.grpc_meta, BTreeMap::from([("some-header".into(), "env".into())]));
    assert_eq!(profile.tls.unwrap().server_name.as_deref(), Some("name"));
    assert_eq!(profile.codec.unwrap().endpoint.as_deref(), Some("http://codec"));
}

#[test]
fn a_profile_is_chosen_by_argument_then_by_variable() {
    let variables = [("TEMPORAL_PROFILE", "cloud")];
    assert_eq!(loaded(&variables, &LoadOptions::default()).unwrap().address.as_deref(), Some("cloud:7233"));
    assert_eq!(loaded(&variables, &named("default")).unwrap().address.as_deref(), Some("file:7233"));
    let message = loaded(&[], &named("prod")).unwrap_err();
    assert_eq!(message, "there is no profile `prod`; there are: clear, cloud, default");
}

#[test]
fn a_file_that_is_named_must_exist_and_the_default_one_need_not() {
    let message = loaded(&[("TEMPORAL_CONFIG_FILE", "/nowhere.toml")], &LoadOptions::default()).unwrap_err();
    assert_eq!(message, "the profile file /nowhere.toml does not exist");
    let empty = load_with(&LoadOptions::default(), &environment(&[]), |_| Ok(None)).unwrap();
    assert_eq!(empty, Profile::default());
    let options = ClientOptions::from_profile(&empty).unwrap();
    assert_eq!((options.target.authority().as_str(), options.uses_tls()), ("localhost:7233", false));
}

#[test]
fn file_and_environment_can_be_left_out() {
    let no_file = LoadOptions { no_file: true, ..LoadOptions::default() };
    assert_eq!(loaded(&[("TEMPORAL_ADDRESS", "env:1")], &no_file).unwrap().address.as_deref(), Some("env:1"));
    let nothing = LoadOptions { no_environment: true, ..no_file };
    assert_eq!(loaded(&[("TEMPORAL_ADDRESS", "env:1")], &nothing).unwrap(), Profile::default());
}

#[test]
fn tls_of_a_profile() {
    let cloud = loaded(&[("TEMPORAL_TLS_CLIENT_CERT_DATA", "CERT")], &named("cloud")).unwrap();
    let tls = cloud.tls.clone().unwrap();
    assert_eq!(tls.client_cert, Some(Source::Data("CERT".into())), "the variable replaces the file's path");
    let options = ClientOptions::from_profile(&cloud).unwrap();
    assert!(options.uses_tls());
    let identity = options.tls.unwrap().identity.unwrap();
    assert_eq!((identity.certificate, identity.key), (b"CERT".to_vec(), b"KEY".to_vec()));

    let trusting =
        loaded(&[("TEMPORAL_TLS_DISABLE_HOST_VERIFICATION", "1")], &LoadOptions::default()).unwrap();
    assert!(ClientOptions::from_profile(&trusting).unwrap().tls.unwrap().verification_disabled);

    let clear = ClientOptions::from_profile(&loaded(&[], &named("clear")).unwrap()).unwrap();
    assert!(!clear.uses_tls() && clear.api_key.is_some());
    let again = loaded(&[("TEMPORAL_TLS", "true")], &named("clear")).unwrap();
    assert!(ClientOptions::from_profile(&again).unwrap().uses_tls());
}

#[test]
fn what_is_wrong_with_tls_is_named() {
    let refused = |variables: &[(&str, &str)]| {
        let profile = loaded(variables, &LoadOptions { no_file: true, ..LoadOptions::default() })?;
        ClientOptions::from_profile(&profile).map(|_| ()).map_err(|e| e.message)
    };
    let has = |variables: &[(&str, &str)], part: &str| {
        let message = refused(variables).unwrap_err();
        assert!(message.contains(part), "{message}");
    };
    has(&[("TEMPORAL_TLS", "yes")], "TEMPORAL_TLS is `yes`; it must be true or false");
    has(&[("TEMPORAL_TLS_CLIENT_CERT_DATA", "x")], "tls.client_key is not");
    has(&[("TEMPORAL_TLS_CLIENT_KEY_DATA", "x")], "tls.client_cert is not");
    has(&[("TEMPORAL_TLS_SERVER_CA_CERT_PATH", "/nowhere.pem")], "cannot read /nowhere.pem");
    let both = [("TEMPORAL_TLS_SERVER_CA_CERT_PATH", "a"), ("TEMPORAL_TLS_SERVER_CA_CERT_DATA", "b")];
    has(&both, "TEMPORAL_TLS_SERVER_CA_CERT_PATH and TEMPORAL_TLS_SERVER_CA_CERT_DATA are both set");
    has(&[("TEMPORAL_GRPC_META_GRPC_X", "1")], "`grpc-x`");
}

#[test]
fn unknown_keys_are_errors_only_when_strict() {
    let text =
        "typo = 1\n[profile.a]\nadress = 'x'\n[profile.a.tls]\nserver = 'y'\n[profile.a.codec]\nkey = 'z'";
    assert_eq!(parse(text, false).unwrap().len(), 1);
    let message = parse(text, true).unwrap_err().message;
    let keys = "profile.a.adress, profile.a.codec.key, profile.a.tls.server, typo";
    assert_eq!(message, format!("the profile file has unknown keys: {keys}"));
}

#[test]
fn a_broken_file_is_an_error_that_tells_the_line_and_no_secret() {
    let message = parse("[profile.a]\napi_key = secret", false).unwrap_err().message;
    assert!(
        message.starts_with("the profile file is not TOML, line 2:") && !message.contains("secret"),
        "{message}"
    );
    for (text, expected) in [
        ("profile = 1", "`profile` must be a table"),
        ("[profile]\na = 1", "`profile.a` must be a table"),
        ("[profile.a]\naddress = 1", "`profile.a.address` must be a string"),
        ("[profile.a.tls]\ndisabled = 'no'", "`profile.a.tls.disabled` must be true or false"),
        ("[profile.a.grpc_meta]\nx = 1", "`profile.a.grpc_meta.x` must be a string"),
    ] {
        let message = parse(text, false).unwrap_err().message;
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn no_secret_is_printed() {
    let profile = loaded(&[], &named("cloud")).unwrap();
    let text = format!("{profile:?}");
    assert!(!text.contains("secret") && !text.contains("token") && !text.contains("KEY"), "{text}");
}
