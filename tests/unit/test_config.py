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


def sections(model: type[BaseModel], prefix: str = "") -> dict[str, type[BaseModel]]:
    """Every model below `model`, by the dotted name of its TOML section."""
    found = {prefix: model}
    for name, field in model.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found.update(sections(part, f"{prefix}.{name}" if prefix else name))
    return found


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
    assert settings.upstream[0].password.get_secret_value() == "my-password"
    assert settings.smpp.tls is None


def test_example_shows_every_key_and_the_true_defaults() -> None:
    data = tomllib.loads(uncommented(EXAMPLE.read_text()))
    examples = {"smpp.tls", "upstream", "route"}
    for section, model in sections(config.Settings).items():
        table: Any = data
        for part in filter(None, section.split(".")):
            table = table[part][0] if isinstance(table[part], list) else table[part]
        assert set(table) == set(model.model_fields), section
        if section and section not in examples:
            for key, field in model.model_fields.items():
                if field.default is not None and not isinstance(field.default, BaseModel):
                    assert table[key] == field.default, f"{section}.{key}"


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
        (UPSTREAM + "kind = 'modem'\n", "upstream[0].kind: Input should be 'smpp'"),
        (UPSTREAM + "binds = 33\n", "upstream[0].binds: Input should be less than or equal to 32"),
        (UPSTREAM + "reconnect_max_s = 0.1\n", "upstream[0].reconnect_max_s: should not be below"),
        (UPSTREAM * 2, 'upstream[1].name: "a" is the name of several upstreams'),
        (
            UPSTREAM + "[[route]]\nupstreams = []\n",
            "route[0].upstreams: List should have at least 1",
        ),
        (
            UPSTREAM + "[[route]]\nupstreams = ['a', 'b']\n",
            'route[0].upstreams[1]: there is no upstream "b"',
        ),
        (
            UPSTREAM + "[[route]]\nupstreams = ['a', 'a']\n",
            'route[0].upstreams[1]: "a" is there already',
        ),
        (
            UPSTREAM + "[[route]]\nupstreams = ['a']\n" * 2,
            'route[1].prefix: "" is the prefix of several routes',
        ),
        (UPSTREAM + "[[route]]\nprefix = '+44'\nupstreams = ['a']\n", "route[0].prefix: String"),
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
