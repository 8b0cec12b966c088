"""Reading the file, and saying what is wrong with it in its own words."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from proxy.config.settings import Settings
from proxy.config.upstreams import KINDS

ENVIRONMENT_VARIABLE: Final = "SMPP_PROXY_CONFIG"


class ConfigError(Exception):
    """The file cannot be used; the text has one line per problem, led by the key's path."""


def find(path: Path | None) -> Path | None:
    """The file to read: the given one, else $SMPP_PROXY_CONFIG, else None (the default)."""
    if path is not None:
        return path
    from_environment = os.environ.get(ENVIRONMENT_VARIABLE, "")
    return Path(from_environment) if from_environment else None


def load(path: Path | None) -> Settings:
    """Reads and validates the file; None gives the embedded default, which has no upstream.

    Raises ConfigError.
    """
    if path is None:
        return Settings()
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        settings = Settings.model_validate(data, context={"directory": path.absolute().parent})
    except ValidationError as error:
        # Without the cause: it quotes the input, passwords included.
        raise ConfigError("\n".join(_problems(error))) from None
    settings._source = path
    return settings


def _problems(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_input=False, include_url=False):
        location = detail["loc"]
        place, table = _key_path(location)
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = _unknown(location)
        elif detail["type"] == "missing":
            message = "is missing"
        elif detail["type"] == "model_type":
            message = "should be a table" if table else message
        elif detail["type"] == "union_tag_invalid":
            place += ".kind"
            message = f"should be {_listed(list(KINDS))}"
        # What concerns several keys names them itself, a line each.
        yield f"{place}: {message}" if place else message


def _key_path(location: tuple[int | str, ...]) -> tuple[str, Any]:
    """("upstream", 0, "modem", "device") as upstream[0].device; and the model that it is, if any.

    The name of the kind is pydantic's way to say which choice it took; no such key is there.
    """
    text = ""
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif model is KINDS:
            model = KINDS.get(part)
        else:
            text += f".{part}" if text else part
            model = _MODEL_OF_KEY.get((model, part))
    return text, model


def _unknown(location: tuple[int | str, ...]) -> str:
    """What to say of an unknown key: where it belongs, or the known one that is most like it."""
    key = str(location[-1])
    _, model = _key_path(location[:-1])
    if model is None:
        return "unknown key"
    own_kind = next((kind for kind, one in KINDS.items() if one is model), None)
    if own_kind is not None:
        kinds = [kind for kind, one in KINDS.items() if key in one.model_fields]
        if kinds:
            return f'is a key of kind = {_listed(kinds)}, and this is kind = "{own_kind}"'
    close = difflib.get_close_matches(key, model.model_fields, n=1)
    return "unknown key" + (f" (did you mean {close[0]}?)" if close else "")


def _listed(words: list[str]) -> str:
    """As people list them: "a", "b" or "c"."""
    quoted = [f'"{word}"' for word in words]
    return " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections in the type of a key: T, T | None, list[T]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _models_of_keys(model: type[BaseModel]) -> dict[tuple[Any, str], Any]:
    found: dict[tuple[Any, str], Any] = {}
    for name, field in model.model_fields.items():
        models = list(_models_in(field.annotation))
        if models:
            # Only [[upstream]] has several.
            found[model, name] = models[0] if len(models) == 1 else KINDS
        for one in models:
            found.update(_models_of_keys(one))
    return found


_MODEL_OF_KEY: Final = _models_of_keys(Settings)
"""The section that a key of another section is (KINDS: by its kind)."""
