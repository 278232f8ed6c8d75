"""Profiles, from text and environment: what each variable and each key makes of a profile."""

from __future__ import annotations

from typing import Any

import pytest

from settings.table import REFUSED, Row, rows
from surface.shapes import native

KEPT = {"grpc_meta": {"a": "f", "a-b": "g"}}
FILE = '[profile.default.grpc_meta]\na="f"\na-b="g"'
NAMELESS = "metadata without a name could not be sent: connecting would fail"


def becomes(text: str | bytes = "", environment: dict[str, str] | None = None, profile: str | None = None) -> str:
    """The profile that is read, as text, or that it is refused."""
    data = text.encode() if isinstance(text, str) else text
    try:
        read: dict[str, Any] = native.envconfig.load_client_connect_config(
            profile=profile,
            path=None,
            data=data,
            disable_file=False,
            disable_env=False,
            config_file_strict=False,
            env_vars=environment or {},
        )
    except native.envconfig.ConfigError:
        return REFUSED
    return shown(read)


def shown(profile: dict[str, Any]) -> str:
    return repr({key: dict(sorted(it.items())) if isinstance(it, dict) else it for key, it in sorted(profile.items())})


def meta(**more: str) -> str:
    return shown({"grpc_meta": {**KEPT["grpc_meta"], **more}})


METADATA = [
    *(Row(("", value), meta(**{"": value}), meta(), NAMELESS) for value in ("x", " ")),
    *(Row((name, ""), meta()) for name in ("", "C", "_")),
    Row(("A", ""), shown({"grpc_meta": {"a-b": "g"}})),
    *(Row((name, "x"), meta(a="x")) for name in ("A", "a")),
    *(Row((name, "x"), meta(**{"a-b": "x"})) for name in ("A_B", "A-B", "a_b")),
    *(Row((name, "x"), meta(**{name.lower(): "x"})) for name in ("A.B", "A B", "CAF\u00c9", "BIN")),
    *(Row((name, "x"), meta(**{key: "x"})) for name, key in (("_", "-"), ("__", "--"), ("_A", "-a"), ("A__B", "a--b"))),
    *(Row((name, "x"), meta(**{key: "x"})) for name, key in (("A_BIN", "a-bin"), ("GRPC_X", "grpc-x"))),
    *(Row(("C", value), meta(c=value)) for value in (" ", "caf\u00e9", "new\nline")),
]


@pytest.mark.parametrize(**rows(*METADATA))
def test_metadata_in_the_environment(row: Row, engine: str) -> None:
    name, value = row.value
    assert becomes(FILE, {f"TEMPORAL_GRPC_META_{name}": value}) == row.expected(engine)


@pytest.mark.parametrize("value", ["", " ", "a", "caf\u00e9", "new\nline"])
def test_texts_in_the_environment(value: str) -> None:
    for name, key in {"ADDRESS": "address", "NAMESPACE": "namespace", "API_KEY": "api_key"}.items():
        assert becomes("", {f"TEMPORAL_{name}": value}) == shown({key: value})
    tls: dict[str, Any] = {"disabled": None, "disable_host_verification": False}
    assert becomes("", {"TEMPORAL_TLS_SERVER_NAME": value}) == shown({"tls": {**tls, "server_name": value}})
    for name in ("client_cert", "client_key", "server_ca_cert"):
        for kind, given in {"PATH": {"path": value}, "DATA": {"data": value.encode()}}.items():
            assert becomes("", {f"TEMPORAL_TLS_{name.upper()}_{kind}": value}) == shown({"tls": {**tls, name: given}})


SWITCHES = [
    *(Row(value, "True") for value in ("true", "TRUE", "True", "1")),
    *(Row(value, "False") for value in ("false", "0")),
    *(Row(value, "None") for value in ("", "yes", "on", " true", "t", "2")),
]


@pytest.mark.parametrize(**rows(*SWITCHES))
def test_switches_in_the_environment(row: Row, engine: str) -> None:
    on = {"True": True, "False": False, "None": None}[row.expected(engine)]
    disabled = None if on is None else not on
    tls = {"disabled": disabled, "disable_host_verification": False}
    assert becomes("", {"TEMPORAL_TLS": row.value}) == shown({"tls": tls})
    unverified = {"disabled": None, "disable_host_verification": bool(on)}
    assert becomes("", {"TEMPORAL_TLS_DISABLE_HOST_VERIFICATION": row.value}) == shown({"tls": unverified})


TEXTS = [
    *(Row(text, "{}") for text in ("", "# only", "[profile]", "[profile.default]", "x=1", "[profile.default]\nunknown=1")),
    *(Row(text, "{}") for text in ('[profile.Default]\naddress="x"', '[profile.""]\naddress="x"')),
    Row('[profile.default]\naddress=""', "{'address': ''}"),
    Row('[profile.default]\r\naddress="a"', "{'address': 'a'}"),
    Row("[profile.default]\naddress='''a\nb'''", r"{'address': 'a\nb'}"),
    *(Row(text, REFUSED) for text in ("a b c", "profile=1", "[profile.default]\naddress=1", "[profile.default]\ntls=true")),
    *(Row(text, REFUSED) for text in ('[profile.default.tls]\ndisabled="x"', '[profile.default]\naddress="a"\naddress="b"')),
    *(Row(text, REFUSED) for text in ("[profile.default.grpc_meta]\na=1", "[profile.default]\nnamespace=2020-01-01")),
    *(Row(text, REFUSED) for text in ("[[profile.default]]\naddress='a'", "[profile.default]\ngrpc_meta=[]")),
    Row(b"\xff", REFUSED),
    Row(b"\0", REFUSED),
]


@pytest.mark.parametrize(**rows(*TEXTS))
def test_texts(row: Row, engine: str) -> None:
    assert becomes(row.value) == row.expected(engine)


PROFILES = [
    Row((None, '[profile.default]\naddress="d"'), "{'address': 'd'}"),
    Row(("caf\u00e9", '[profile."caf\u00e9"]\naddress="c"'), "{'address': 'c'}"),
    Row(("", '[profile.""]\naddress="e"'), "{'address': 'e'}"),
    *(Row((name, '[profile.default]\naddress="d"'), REFUSED) for name in ("Default", " ", "", "nope")),
]


@pytest.mark.parametrize(**rows(*PROFILES))
def test_names_of_profiles(row: Row, engine: str) -> None:
    name, text = row.value
    assert becomes(text, profile=name) == row.expected(engine)
