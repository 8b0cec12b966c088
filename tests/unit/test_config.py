"""The configuration file: what loads, what is refused and how the refusal reads."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from proxy import config
from proxy.commands.advice import unreadable_files, warnings

EXAMPLE = Path(__file__).parents[2] / "config" / "proxy.example.toml"
UPSTREAM = """
[[upstream]]
name = "a"
host = "a.example"
system_id = "me"
password = "secret-word"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    return path


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(config.ConfigError) as caught:
        config.load(write(tmp_path, text))
    return str(caught.value).splitlines()


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type: T, T | None, list[T], list of one of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def sections(model: type[BaseModel], prefix: str = "") -> list[tuple[str, type[BaseModel]]]:
    """Every model below `model`, with the dotted name of its TOML section."""
    found = [(prefix, model)]
    for name, field in model.model_fields.items():
        for part in models_in(field.annotation):
            found += sections(part, f"{prefix}.{name}" if prefix else name)
    return found


def tables(data: Any, section: str) -> list[dict[str, Any]]:
    """Every table of a dotted name; one that may be repeated is a list."""
    here = [data]
    for part in filter(None, section.split(".")):
        found = [table[part] for table in here if part in table]
        here = [one for each in found for one in (each if isinstance(each, list) else [each])]
    return here


def uncommented(text: str) -> str:
    """The example with the keys that stand there as `#key = value` switched on."""
    lines = text.splitlines()
    return "\n".join(
        s[1:] if s[:1] == "#" and ((s[1:2].isalpha() and " = " in s) or s[1:2] == "[") else s
        for s in lines
    )


def test_no_file_is_the_embedded_default() -> None:
    settings = config.load(None)
    assert settings.database.embedded
    assert (settings.smpp.host, settings.smpp.port) == ("127.0.0.1", 2775)
    assert settings.upstream == []
    assert settings.source is None
    assert warnings(settings) == []


def test_example_loads() -> None:
    settings = config.load(EXAMPLE)
    (carrier,) = settings.upstream
    assert isinstance(carrier, config.SmppUpstreamSettings)
    assert carrier.password.get_secret_value() == "my-password"
    assert settings.smpp.tls is None


def test_example_shows_every_key_and_the_true_defaults() -> None:
    data = tomllib.loads(uncommented(EXAMPLE.read_text()))
    examples = {"smpp.tls", "upstream", "upstream.address", "route"}
    for section, model in sections(config.Settings):
        these = tables(data, section)
        kind = model.model_fields.get("kind")
        if kind is not None:
            these = [table for table in these if table["kind"] == kind.default]
        # Where a table is repeated, one of them has to show a key.
        shown = {key for table in these for key in table}
        assert shown == set(model.model_fields), (section, model)
        if section and section not in examples:
            for table in these:
                for key, field in model.model_fields.items():
                    if field.default is not None and not isinstance(field.default, BaseModel):
                        assert table[key] == field.default, f"{section}.{key}"


def test_the_example_is_right_with_every_line_switched_on(tmp_path: Path) -> None:
    settings = config.load(write(tmp_path, uncommented(EXAMPLE.read_text())))
    assert [one.kind for one in settings.upstream] == ["smpp", "modem", "pool"]
    assert [(route.name, route.mode) for route in settings.routes_or_default] == [
        ("alerts by night", "direct"),
        ("any", "direct"),
    ]


def test_every_section_has_hints_for_its_keys(tmp_path: Path) -> None:
    for text, hint in [
        (
            "[upstream.health]\nerror_rat = 1\n",
            "upstream[0].health.error_rat: unknown key (did you mean error_rate?)",
        ),
        (
            "[upstream.address]\nsource_add = 'x'\n",
            "upstream[0].address.source_add: unknown key (did you mean source_addr?)",
        ),
        ("[queue]\nmax_ages = 1\n", "queue.max_ages: unknown key (did you mean max_age_s?)"),
        ("[retry]\npatience = 1\n", "retry.patience: unknown key (did you mean patience_s?)"),
        (
            "[[route]]\nprefixes = ''\nupstreams = ['a']\n",
            "route[0].prefixes: unknown key (did you mean prefix?)",
        ),
    ]:
        assert problems(tmp_path, UPSTREAM + text) == [hint]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[smpp]\nprot = 1\n", "smpp.prot: unknown key (did you mean port?)"),
        ("[smpp.tls]\nzzz = 1\ncertificate='c'\nkey='k'", "smpp.tls.zzz: unknown key"),
        ("[nonsense]\n", "nonsense: unknown key"),
        ("[smpp]\nport = 65536\n", "smpp.port: Input should be less than or equal to 65535"),
        ('[smpp]\nport = "2775"\n', "smpp.port: Input should be a valid integer"),
        ("[http]\nenabled = 1\n", "http.enabled: Input should be a valid boolean"),
        ("[smpp]\nenquire_link_s = inf\n", "smpp.enquire_link_s: Input should be a finite number"),
        ('[smpp]\nsystem_id = "1234567890123456"', "smpp.system_id: should have at most 15 ASCII"),
        ("[status]\nno_route = 0\n", "status.no_route: Input should be greater than or equal to 1"),
        ('[database]\nurl = "mysql://x"\n', 'database.url: should be "embedded" or begin with'),
        ('[in_doubt]\npolicy = "guess"\n', "in_doubt.policy: Input should be 'charge', 'release'"),
        ("[http]\nport = 2775\n", "http.port: 2775 is smpp.port already"),
        ("[delivery]\nretry_max_s = 1\n", "delivery.retry_max_s: should not be below retry_min_s"),
        ("[[upstream]]\nname = 'a b'\n", "upstream[0].name: String should match pattern"),
        ("[[upstream]]\nname = 'a'\n", "upstream[0].host: is missing"),
        (UPSTREAM + "port = 0\n", "upstream[0].port: Input should be greater than or equal to 1"),
        (UPSTREAM + "kind = 'x'\n", 'upstream[0].kind: should be "smpp", "modem" or "pool"'),
        (UPSTREAM + "kind = 5\n", 'upstream[0].kind: should be "smpp", "modem" or "pool"'),
        ("upstream = [1]\n", "upstream[0]: should be a table"),
        ("smpp = 1\n", "smpp: should be a table"),
        ("[queue]\nretry_max_s = 1\n", "queue.retry_max_s: should not be below retry_min_s"),
        ("[retry]\ntries_max = 0\n", "retry.tries_max: Input should be greater than or equal"),
        (UPSTREAM + "binds = 33\n", "upstream[0].binds: Input should be less than or equal to 32"),
        (UPSTREAM + "reconnect_max_s = 0.1\n", "upstream[0].reconnect_max_s: should not be below"),
        (UPSTREAM * 2, 'upstream[1].name: "a" is the name of several upstreams'),
    ],
)
def test_a_problem_names_the_key(tmp_path: Path, text: str, line: str) -> None:
    assert any(found.startswith(line) for found in problems(tmp_path, text)), problems(
        tmp_path, text
    )


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = "[smpp]\nport = -1\nprot = 1\n[http]\nport = -1\n"
    assert [line.split(":")[0] for line in problems(tmp_path, text)] == [
        "smpp.port",
        "smpp.prot",
        "http.port",
    ]


def test_not_toml_and_not_there(tmp_path: Path) -> None:
    assert "not TOML" in problems(tmp_path, "[smpp\n")[0]
    with pytest.raises(config.ConfigError, match=r"absent\.toml: No such file"):
        config.load(tmp_path / "absent.toml")


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    text = UPSTREAM + '[database]\nurl = "postgresql://u:db-word@h/d"\n'
    settings = config.load(write(tmp_path, text))
    assert "secret-word" not in repr(settings)
    assert "db-word" not in repr(settings)
    too_long = UPSTREAM.replace("secret-word", "secret-word" * 10)
    assert "secret-word" not in "\n".join(problems(tmp_path, too_long))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config.load(None).smpp.port = 1


def test_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMPP_PROXY_CONFIG", raising=False)
    assert config.find(None) is None
    monkeypatch.setenv("SMPP_PROXY_CONFIG", "env.toml")
    assert config.find(None) == Path("env.toml")
    assert config.find(Path("given.toml")) == Path("given.toml")


def test_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = config.DatabaseSettings()
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert settings.data_directory == Path("/home/someone/.local/share/smpp-proxy")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert settings.data_directory == Path("/home/someone/.local/share/smpp-proxy")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert settings.data_directory == Path("/data/smpp-proxy")
    loaded = config.load(write(tmp_path, '[database]\ndata_dir = "here"\n'))
    assert loaded.database.data_directory == tmp_path / "here"


@pytest.mark.parametrize("status", [0x08, 0x14, 0x58, 0x64])
def test_warns_of_statuses_that_kannel_retries(tmp_path: Path, status: int) -> None:
    text = UPSTREAM + f"[status]\ninsufficient_credits = {status}\n"
    (warning,) = warnings(config.load(write(tmp_path, text)))
    assert warning.startswith("status.insufficient_credits: ")
    assert "makes Kannel retry for ever" in warning


def test_other_warnings(tmp_path: Path) -> None:
    (warning,) = warnings(config.load(write(tmp_path, "")))
    assert warning.startswith("upstream: there is none")
    text = (
        UPSTREAM
        + "tls = true\ntls_verify = false\ntls_ca = 'absent.pem'\n"
        + UPSTREAM.replace('"a"', '"b"')
        + "[[route]]\nupstreams = ['a']\n[in_doubt]\nafter_s = 1\n"
    )
    keys = [line.split(":")[0] for line in warnings(config.load(write(tmp_path, text)))]
    assert keys == [
        "upstream[0].tls_verify",
        "in_doubt.after_s",
        "upstream[1].name",
        "in_doubt.after_s",
    ]
    settings = config.load(write(tmp_path, text))
    assert [line.split(":")[0] for line in unreadable_files(settings)] == ["upstream[0].tls_ca"]
