//! What a worker runs on, as its heartbeats tell: the platform, and the host if it has left its marks.

use std::path::Path;

use outlast_proto::temporal::api::worker::v1::EnvironmentInfo;
use outlast_proto::temporal::api::worker::v1::environment_info::hosting_environment::HostingEnvironmentType as Host;
use outlast_proto::temporal::api::worker::v1::environment_info::linux_platform::Libc;
use outlast_proto::temporal::api::worker::v1::environment_info::platform::Variant;
use outlast_proto::temporal::api::worker::v1::environment_info::runtime::RuntimeType;
use outlast_proto::temporal::api::worker::v1::environment_info::{
    Architecture, HostingEnvironment, LinuxPlatform, MacOsPlatform, Platform, Runtime, WindowsPlatform,
};

/// Environment variables that only this host sets.
const VARIABLES: &[(&str, Host)] = &[
    ("KUBERNETES_SERVICE_HOST", Host::K8s),
    ("AWS_LAMBDA_FUNCTION_NAME", Host::AwsLambda),
    ("ECS_CONTAINER_METADATA_URI_V4", Host::AwsEcs),
    ("K_SERVICE", Host::GoogleCloudRun),
    ("GAE_SERVICE", Host::GoogleAppEngine),
    ("FUNCTIONS_WORKER_RUNTIME", Host::AzureFunctions),
    ("CONTAINER_APP_NAME", Host::AzureContainerApps),
    ("WEBSITE_SITE_NAME", Host::AzureAppService),
];

/// Looks around.
pub(crate) fn tell() -> EnvironmentInfo {
    let docker = Path::new("/.dockerenv").exists().then_some(Host::Docker);
    let named = VARIABLES.iter().filter(|(name, _)| std::env::var_os(name).is_some()).map(|(_, host)| *host);
    let host = |host: Host| HostingEnvironment { r#type: host.into(), version: String::new() };
    EnvironmentInfo {
        runtimes: vec![Runtime { r#type: RuntimeType::Native.into(), version: String::new() }],
        hosting_environments: docker.into_iter().chain(named).map(host).collect(),
        platform: platform().map(|variant| Platform { variant: Some(variant) }),
    }
}

fn platform() -> Option<Variant> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => Architecture::Amd64,
        "aarch64" => Architecture::Arm64,
        _ => Architecture::Unspecified,
    }
    .into();
    match std::env::consts::OS {
        "linux" => {
            let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
            let version =
                release.lines().find_map(|line| line.strip_prefix("VERSION_ID=")).unwrap_or_default();
            let libc = if cfg!(target_env = "musl") { Libc::Musl } else { Libc::Glibc };
            let version = version.trim_matches('"').to_owned();
            Some(Variant::Linux(LinuxPlatform { version, architecture, libc: libc.into() }))
        }
        "macos" => Some(Variant::Macos(MacOsPlatform { version: String::new(), architecture })),
        "windows" => Some(Variant::Windows(WindowsPlatform { architecture, ..WindowsPlatform::default() })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_says_that_it_is_native_and_where() {
        let told = tell();
        assert_eq!(told.runtimes[0].r#type(), RuntimeType::Native);
        assert_eq!(told.platform.is_some(), cfg!(any(target_os = "linux", target_os = "macos", windows)));
    }
}
