"""Where a client's settings come from: profiles in a file, in text, in the environment; and what is wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from client.wire import loopback
from temporalio.client import Client, TLSConfig
from temporalio.envconfig import ClientConfig, ClientConfigProfile, ClientConfigTLS

FILE = """
[profile.default]
address = "one.test:1"
namespace = "first"
api_key = "key"
[profile.default.tls]
server_name = "name.test"
client_cert_data = "CERT"
client_key_path = "/a/key"
[profile.default.grpc_meta]
Some_Key = "value"
other-key = "other"
[profile.default.codec]
endpoint = "http://codec"

[profile.second]
address = "two.test:2"

[profile.plain.tls]
disabled = true

[profile.secure.tls]
disabled = false

[profile.empty]
"""
NOTHING = ClientConfigProfile()


def load(profile: str | None = None, source: Path | str | bytes = FILE, **env: str) -> ClientConfigProfile:
    """A profile of `source`, in an environment of `env` only."""
    return ClientConfigProfile.load(profile, config_source=source, override_env_vars=env)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.toml"
    path.write_text(FILE)
    return path


def test_the_default_profile_is_read_whole() -> None:
    assert load() == ClientConfigProfile(
        address="one.test:1",
        namespace="first",
        api_key="key",
        tls=ClientConfigTLS(server_name="name.test", client_cert=b"CERT", client_private_key=Path("/a/key")),
        grpc_meta={"some-key": "value", "other-key": "other"},
    )


def test_every_profile_is_loaded() -> None:
    config = ClientConfig.load(config_source=FILE, override_env_vars={"TEMPORAL_ADDRESS": "ignored:1"})
    assert set(config.profiles) == {"default", "second", "plain", "secure", "empty"}
    assert config.profiles["default"] == load()
    assert config.profiles["second"] == ClientConfigProfile(address="two.test:2")
    assert config.profiles["empty"] == NOTHING
    assert ClientConfig.from_dict(config.to_dict()).profiles["plain"] == ClientConfigProfile(
        tls=ClientConfigTLS(disabled=True)
    )


def test_text_bytes_and_path_say_the_same(file: Path) -> None:
    assert load(source=FILE) == load(source=FILE.encode()) == load(source=file)


def test_the_profile_is_chosen_by_argument_then_by_environment() -> None:
    assert load("second").address == "two.test:2"
    assert load(TEMPORAL_PROFILE="second").address == "two.test:2"
    assert load("default", TEMPORAL_PROFILE="second").address == "one.test:1"


def test_only_the_default_that_nobody_asked_for_may_be_missing() -> None:
    assert load(source="") == NOTHING
    with pytest.raises(RuntimeError, match="^Profile 'default' not found$"):
        load("default", source="")
    with pytest.raises(RuntimeError, match="^Profile 'third' not found$"):
        load("third")
    with pytest.raises(RuntimeError, match="^Profile 'third' not found$"):
        load(TEMPORAL_PROFILE="third")


def test_the_environment_says_where_the_file_is(file: Path) -> None:
    env = {"TEMPORAL_CONFIG_FILE": str(file)}
    assert ClientConfigProfile.load("second", override_env_vars=env).address == "two.test:2"
    # Without overrides from the environment the file is still found by it.
    assert ClientConfigProfile.load("second", disable_env=True, override_env_vars=env).address == "two.test:2"
    assert set(ClientConfig.load(override_env_vars=env).profiles) >= {"default", "second"}


@pytest.mark.skipif(sys.platform != "linux", reason="the user's folder of settings has another name elsewhere")
def test_without_a_word_the_user_s_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporalio").mkdir()
    (tmp_path / "temporalio" / "temporal.toml").write_text(FILE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert ClientConfigProfile.load("second", override_env_vars={}).address == "two.test:2"


def test_the_environment_of_the_process_is_used_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "process.test:3")
    assert ClientConfigProfile.load(config_source=FILE).address == "process.test:3"
    assert load().address == "one.test:1"
    assert ClientConfigProfile.load(config_source=FILE, disable_env=True).address == "one.test:1"


def test_a_file_that_is_not_there_is_empty() -> None:
    assert load(source=Path("/no/such/file.toml")) == NOTHING
    assert ClientConfigProfile.load(override_env_vars={"TEMPORAL_CONFIG_FILE": "/no/such/file.toml"}) == NOTHING


def test_the_environment_wins_over_the_file() -> None:
    profile = load(
        TEMPORAL_ADDRESS="env.test:9",
        TEMPORAL_NAMESPACE="env",
        TEMPORAL_API_KEY="env-key",
        TEMPORAL_TLS_SERVER_NAME="env-name.test",
        TEMPORAL_GRPC_META_SOME_KEY="env-value",
        TEMPORAL_GRPC_META_OTHER_KEY="",
        TEMPORAL_GRPC_META_NEW="new",
    )
    assert (profile.address, profile.namespace, profile.api_key) == ("env.test:9", "env", "env-key")
    assert profile.tls is not None
    assert (profile.tls.server_name, profile.tls.client_cert) == ("env-name.test", b"CERT")
    assert profile.grpc_meta == {"some-key": "env-value", "new": "new"}


def test_the_environment_alone_makes_a_profile() -> None:
    env = {"TEMPORAL_ADDRESS": "env.test:9", "TEMPORAL_TLS_SERVER_CA_CERT_DATA": "CA"}
    assert ClientConfigProfile.load(disable_file=True, override_env_vars=env) == ClientConfigProfile(
        address="env.test:9", tls=ClientConfigTLS(server_root_ca_cert=b"CA")
    )


@pytest.mark.parametrize(
    "value, disabled", [("true", False), ("TRUE", False), ("1", False), ("false", True), ("0", True), ("yes", None)]
)
def test_tls_is_switched_by_the_environment(value: str, disabled: bool | None) -> None:
    assert load("second", TEMPORAL_TLS=value).tls == ClientConfigTLS(disabled=disabled)


@pytest.mark.parametrize(
    "source, error",
    [
        ("a b c", "TOML parse error at line 1, column 3\n  |\n1 | a b c\n  |   ^\n"),
        ("[profile.default]\naddress = 1", "TOML parse error at line 2, column 11\n"),
        (b"\xff\xff", "invalid utf-8 sequence of 1 bytes from index 0"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(source: str | bytes, error: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        load(source=source)
    assert type(refused.value).__name__ == "ConfigError"
    assert str(refused.value).startswith(f"Configuration loading error: {error}")


@pytest.mark.parametrize("source", ["[profile.default]\nwhat = 1", "what = 1", "[profile.default.tls]\nwhat = 1"])
def test_unknown_keys_are_an_error_only_when_strict(source: str) -> None:
    assert load(source=source).address is None
    with pytest.raises(RuntimeError, match="unknown field `what`"):
        ClientConfigProfile.load(config_source=source, config_file_strict=True, override_env_vars={})
    with pytest.raises(RuntimeError, match="unknown field `what`"):
        ClientConfig.load(config_source=source, config_file_strict=True, override_env_vars={})


@pytest.mark.parametrize("which", ["client_cert", "client_key", "server_ca_cert"])
def test_a_certificate_comes_from_one_place(which: str) -> None:
    source = f'[profile.default.tls]\n{which}_path = "a"\n{which}_data = "b"'
    with pytest.raises(RuntimeError) as refused:
        load(source=source)
    assert str(refused.value) == f"Invalid configuration: Cannot specify both {which}_path and {which}_data"
    path, data = (f"TEMPORAL_TLS_{which.upper()}_{kind}" for kind in ("PATH", "DATA"))
    with pytest.raises(RuntimeError) as refused:
        load(source="", **{path: "a", data: "b"})
    assert str(refused.value) == f"Invalid configuration: Cannot specify both {path} and {data}"


def test_the_environment_does_not_turn_data_into_a_path() -> None:
    with pytest.raises(RuntimeError) as refused:
        load(TEMPORAL_TLS_CLIENT_CERT_PATH="a")
    assert str(refused.value) == (
        "Invalid configuration: Cannot specify cert path via TEMPORAL_TLS_CLIENT_CERT_PATH "
        "when cert data is already specified"
    )


def test_something_must_be_read() -> None:
    with pytest.raises(RuntimeError) as refused:
        ClientConfigProfile.load(disable_file=True, disable_env=True)
    assert str(refused.value) == "Invalid configuration: Cannot disable both file and environment loading"


def test_a_source_of_another_type_is_a_type_error() -> None:
    number: Any = 7
    with pytest.raises(TypeError):
        ClientConfig.load(config_source=number)


def test_a_profile_becomes_arguments_of_connect(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"KEY")
    source = FILE.replace("/a/key", str(tmp_path / "key"))
    assert load(source=source).to_client_connect_config() == {
        "target_host": "one.test:1",
        "namespace": "first",
        "api_key": "key",
        "tls": TLSConfig(domain="name.test", client_cert=b"CERT", client_private_key=b"KEY"),
        "rpc_metadata": {"some-key": "value", "other-key": "other"},
    }
    assert load("plain").to_client_connect_config() == {"tls": False}
    assert load("secure").to_client_connect_config() == {"tls": TLSConfig()}
    assert load("empty", TEMPORAL_API_KEY="k").to_client_connect_config() == {"api_key": "k", "tls": True}


async def test_a_client_connects_as_its_profile_says(tmp_path: Path) -> None:
    async with loopback() as server:
        path = tmp_path / "temporal.toml"
        path.write_text(
            f'[profile.here]\naddress = "{server.address}"\nnamespace = "there"\napi_key = "secret"\n'
            "[profile.here.tls]\ndisabled = true\n[profile.here.grpc_meta]\nMy_Key = 'mine'\n"
        )
        config = ClientConfig.load_client_connect_config("here", config_file=str(path), override_env_vars={})
        client = await Client.connect(**config)
        await client.count_workflows("x")
        headers = server.calls[-1].headers
        assert (headers["temporal-namespace"], headers["my-key"]) == ("there", "mine")
        assert headers["authorization"] == "Bearer secret"
