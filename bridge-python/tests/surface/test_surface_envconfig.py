"""Client configuration from files and variables, as the native module hands it to the Python layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from surface.shapes import line, native, raised

FULL = b"""
[profile.default]
address = "a:1"
namespace = "n"
api_key = "k"
[profile.default.tls]
disabled = false
client_cert_path = "cp"
client_key_data = "kd"
server_ca_cert_data = "ca"
server_name = "sn"
disable_host_verification = true
[profile.default.codec]
endpoint = "e"
auth = "au"
[profile.default.grpc_meta]
Foo_Bar = "x"
baz = "y"
[profile.other]
address = "o:1"
[profile.bare.tls]
"""
PROFILE = {
    "address": "a:1",
    "namespace": "n",
    "api_key": "k",
    "tls": {
        "disabled": False,
        "client_cert": {"path": "cp"},
        "client_key": {"data": b"kd"},
        "server_ca_cert": {"data": b"ca"},
        "server_name": "sn",
        "disable_host_verification": True,
    },
    "codec": {"endpoint": "e", "auth": "au"},
    "grpc_meta": {"foo-bar": "x", "baz": "y"},
}
BARE = {"tls": {"disabled": None, "disable_host_verification": False}}
OTHER = {"address": "o:1"}


def load(data: bytes | None = None, env: dict[str, str] | None = None, **change: Any) -> Any:
    arguments: dict[str, Any] = {
        "profile": None,
        "path": None,
        "data": data,
        "disable_file": False,
        "disable_env": False,
        "config_file_strict": False,
        "env_vars": {f"TEMPORAL_{name}": value for name, value in (env or {}).items()},
    }
    return native.envconfig.load_client_connect_config(**{**arguments, **change})


def load_all(data: bytes | None = None, path: str | None = None, strict: bool = False) -> Any:
    return native.envconfig.load_client_config(path=path, data=data, config_file_strict=strict, env_vars={})


def tls(**keys: Any) -> dict[str, Any]:
    return {"tls": {**BARE["tls"], **keys}}


def test_a_whole_profile() -> None:
    assert load(FULL) == PROFILE
    assert load(FULL, profile="other") == OTHER
    assert load(FULL, profile="bare") == BARE


def test_all_profiles() -> None:
    assert load_all(FULL) == {"default": PROFILE, "other": OTHER, "bare": BARE}
    assert load_all(b"") == {}
    assert native.envconfig.load_client_config(None, b"", False) == {}


def test_a_path_and_its_absence(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    assert load(path=str(file)) == {}
    assert load_all(path=str(file)) == {}
    file.write_bytes(FULL)
    assert load(path=str(file), profile="other") == OTHER
    assert (
        line(raised(load, path=str(tmp_path)))
        == "ConfigError: Configuration loading error: Is a directory (os error 21)"
    )


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(FULL)
    here = {"CONFIG_FILE": str(file)}
    assert load(env=here, profile="other") == OTHER
    assert load(env=here, profile="other", disable_env=True) == OTHER
    assert load(env=here, disable_file=True) == {}
    assert load(env={"CONFIG_FILE": str(file) + "none"}) == {}
    assert load(FULL, disable_file=True) == {}


def test_the_file_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "temporalio" / "temporal.toml"
    file.parent.mkdir()
    file.write_bytes(FULL)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load(profile="other") == OTHER
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    assert load() == {}


def test_the_variables_are_those_given_or_else_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "process:1")
    assert load(b"", env_vars=None) == {"address": "process:1"}
    assert load(b"") == {}
    assert load(b"", env_vars=None, disable_env=True) == {}


def test_which_profile() -> None:
    assert load(FULL, {"PROFILE": "other"}) == OTHER
    assert load(FULL, {"PROFILE": "default"}, profile="other") == OTHER
    assert load(FULL, {"PROFILE": "zz"}, disable_env=True) == PROFILE
    assert load(FULL, {"PROFILE": ""}) == PROFILE
    assert load(b"") == {}


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"data": b"", "path": "x"}, "Cannot specify both path and data for config source"),
    ({"data": FULL, "profile": "x"}, "Profile 'x' not found"),
    ({"data": FULL, "profile": ""}, "Profile '' not found"),
    ({"data": b"", "profile": "default"}, "Profile 'default' not found"),
    ({"data": FULL, "env": {"PROFILE": "zz"}}, "Profile 'zz' not found"),
    (
        {"disable_file": True, "disable_env": True},
        "Invalid configuration: Cannot disable both file and environment loading",
    ),
    ({"data": b"\xff"}, "Configuration loading error: invalid utf-8 sequence of 1 bytes from index 0"),
    *(
        (
            {"data": f"[profile.default.tls]\n{name}_path='a'\n{name}_data='b'".encode()},
            f"Invalid configuration: Cannot specify both {name}_path and {name}_data",
        )
        for name in ("client_cert", "client_key", "server_ca_cert")
    ),
    *(
        (
            {"data": b"", "env": {f"TLS_{name}_PATH": "a", f"TLS_{name}_DATA": "b"}},
            f"Invalid configuration: Cannot specify both TEMPORAL_TLS_{name}_PATH and TEMPORAL_TLS_{name}_DATA",
        )
        for name in ("CLIENT_CERT", "CLIENT_KEY", "SERVER_CA_CERT")
    ),
    *(
        (
            {
                "data": f"[profile.default.tls]\n{name}_{held.lower()}='a'".encode(),
                "env": {f"TLS_{name.upper()}_{said}": "b"},
            },
            f"Invalid configuration: Cannot specify {words} {said.lower()} via TEMPORAL_TLS_{name.upper()}_{said} "
            f"when {words} {held.lower()} is already specified",
        )
        for name, words in (("client_cert", "cert"), ("client_key", "key"), ("server_ca_cert", "server CA cert"))
        for said, held in (("PATH", "DATA"), ("DATA", "PATH"))
    ),
]


@pytest.mark.parametrize("arguments,text", ERRORS, ids=[str(number) for number in range(len(ERRORS))])
def test_what_cannot_be_loaded(arguments: dict[str, Any], text: str) -> None:
    error = raised(load, **arguments)
    assert type(error) is native.envconfig.ConfigError
    assert line(error) == f"ConfigError: {text}"


TOML: list[tuple[bytes, int, int, str]] = [
    (b"a b", 1, 3, "key with no value, expected `=`"),
    (b"[profile", 1, 9, "unclosed table, expected `]`"),
    (b"profile=1", 1, 9, "invalid type: integer `1`, expected a map"),
    (b"[profile.default]\naddress=1", 2, 9, "invalid type: integer `1`, expected a string"),
    (b"[profile.default.tls]\ndisabled='x'", 2, 10, 'invalid type: string "x", expected a boolean'),
    (b"[profile.default.grpc_meta]\na=1", 2, 3, "invalid type: integer `1`, expected a string"),
    (b"[profile.default]\naddress='a'\naddress='b'", 3, 1, "duplicate key"),
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("data,row,column,text", TOML, ids=[repr(case[0])[:40] for case in TOML])
def test_what_is_no_toml_or_of_a_wrong_type(data: bytes, row: int, column: int, text: str, strict: bool) -> None:
    for error in (raised(load, data, config_file_strict=strict), raised(load_all, data, strict=strict)):
        assert type(error) is native.envconfig.ConfigError
        head, *_, last = str(error).splitlines()
        assert head == f"Configuration loading error: TOML parse error at line {row}, column {column}"
        assert last == text


PROFILE_KEYS = "expected one of `address`, `namespace`, `api_key`, `tls`, `codec`, `grpc_meta`"
UNKNOWN: list[tuple[bytes, Any, str]] = [
    (b"foo=1", {}, "unknown field `foo`, expected `profile`"),
    (b"[profile.default]\nfoo=1", {}, f"unknown field `foo`, {PROFILE_KEYS}"),
    (b"[profile.default.codec]\nzz=1", {"codec": {}}, "unknown field `zz`, expected `endpoint` or `auth`"),
    (
        b"[profile.default.tls]\nclient_cert='x'",
        BARE,
        "unknown field `client_cert`, expected one of `disabled`, `client_cert_path`, ",
    ),
]


@pytest.mark.parametrize("data,loose,text", UNKNOWN, ids=[repr(case[0])[:40] for case in UNKNOWN])
def test_unknown_keys_are_ignored_unless_strict(data: bytes, loose: Any, text: str) -> None:
    assert load(data) == loose
    for error in (raised(load, data, config_file_strict=True), raised(load_all, data, strict=True)):
        assert str(error).splitlines()[-1].startswith(text)


VARIABLES: list[tuple[dict[str, str], Any]] = [
    ({"ADDRESS": "a", "NAMESPACE": "n", "API_KEY": "k"}, {"address": "a", "namespace": "n", "api_key": "k"}),
    ({"ADDRESS": ""}, {"address": ""}),
    *(({"TLS": text}, tls(disabled=False)) for text in ("true", "TRUE", "1")),
    *(({"TLS": text}, tls(disabled=True)) for text in ("false", "0")),
    *(({"TLS": text}, BARE) for text in ("yes", "")),
    ({"TLS_CLIENT_CERT_PATH": "a"}, tls(client_cert={"path": "a"})),
    ({"TLS_CLIENT_CERT_DATA": "a"}, tls(client_cert={"data": b"a"})),
    ({"TLS_CLIENT_KEY_PATH": "a"}, tls(client_key={"path": "a"})),
    ({"TLS_SERVER_CA_CERT_DATA": "a"}, tls(server_ca_cert={"data": b"a"})),
    ({"TLS_SERVER_NAME": "s"}, tls(server_name="s")),
    ({"TLS_DISABLE_HOST_VERIFICATION": "true"}, tls(disable_host_verification=True)),
    ({"TLS_DISABLE_HOST_VERIFICATION": "zz"}, BARE),
    ({"CODEC_ENDPOINT": "e"}, {"codec": {"endpoint": "e"}}),
    ({"CODEC_AUTH": "e"}, {"codec": {"auth": "e"}}),
    ({"GRPC_META_FOO_BAR": "2"}, {"grpc_meta": {"foo-bar": "2"}}),
    ({"GRPC_META_X": ""}, {}),
]


@pytest.mark.parametrize("env,profile", VARIABLES, ids=[str(case[0]) for case in VARIABLES])
def test_a_variable_alone(env: dict[str, str], profile: Any) -> None:
    assert load(b"", env) == profile


def test_variables_win_over_the_file() -> None:
    assert load(FULL, {"ADDRESS": "env:1"})["address"] == "env:1"
    assert load(FULL, {"TLS": "false"})["tls"]["disabled"] is True
    assert load(FULL, {"TLS_DISABLE_HOST_VERIFICATION": "false"})["tls"]["disable_host_verification"] is False
    assert load(FULL, {"TLS_CLIENT_CERT_PATH": "new"})["tls"]["client_cert"] == {"path": "new"}
    assert load(FULL, {"CODEC_AUTH": "new"})["codec"] == {"endpoint": "e", "auth": "new"}
    assert load(FULL, {"GRPC_META_FOO_BAR": ""})["grpc_meta"] == {"baz": "y"}
    assert load(FULL, {"GRPC_META_BAZ": "new"})["grpc_meta"] == {"foo-bar": "x", "baz": "new"}
    assert load(FULL, {"ADDRESS": "env:1"}, disable_env=True) == PROFILE


def test_what_is_empty_is_left_out_or_kept() -> None:
    assert load(b"[profile.default.grpc_meta]") == {}
    assert load(b"[profile.default.codec]") == {"codec": {}}
    assert load(b"[profile.default.tls]\nclient_cert_data=''") == BARE
    assert load(b"[profile.default]\naddress=''") == {"address": ""}


def test_the_arguments_are_checked() -> None:
    assert isinstance(raised(load, "text"), TypeError)
    assert isinstance(raised(load, b"", env_vars=[1]), TypeError)
    assert isinstance(raised(load, b"", profile=1), TypeError)
    assert isinstance(raised(native.envconfig.load_client_connect_config, None), TypeError)
