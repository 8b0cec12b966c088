"""The layers of docs/architecture.md, read from the imports; and how long files may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "proxy").rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

# {cli, commands} → app → {admin, links, simulator} → flow → store → {credit, routing}
#     → {smpp, gsm} → {telemetry, config}: the higher the number, the further left.
LAYER = {
    "__main__": 9,
    "cli": 8, "commands": 8,
    "app": 7,
    "admin": 6, "links": 6, "simulator": 6,
    "flow": 5,
    "store": 4,
    "credit": 3, "routing": 3,
    "smpp": 2, "gsm": 2,
    "telemetry": 1,
    "config": 0,
}  # fmt: skip
BESIDE = {("cli", "commands"), ("commands", "cli"), ("gsm", "smpp")}
"""Who may see whom within a layer: the commands are parts of the cli, gsm makes TPDUs of PDUs."""
PART_OF = {"serve": "app", "ways": "app"}
"""A file beside the package (or file) that it is a part of."""
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60


def package_of(module: str) -> str:
    """proxy.smpp.framing → smpp; proxy → "" (nothing but a docstring lives there)."""
    name = module.split(".")[1] if "." in module else ""
    return PART_OF.get(name, name)


def package_of_file(path: Path) -> str:
    """proxy/smpp/framing.py → smpp."""
    name = path.relative_to(ROOT / "proxy").parts[0].removesuffix(".py")
    return PART_OF.get(name, name)


def imports_of(path: Path) -> Iterator[str]:
    """Every module of the project that a file imports, also in functions and TYPE_CHECKING."""
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*parts, module] if module else parts)
            # "from proxy import config" names its module on the right.
            yield from (
                f"{module}.{alias.name}" if module == "proxy" else module for alias in node.names
            )


def wrong_arrows(path: Path) -> list[str]:
    """The imports of a file that point up, or sideways between packages of one layer."""
    own = package_of_file(path)
    if own == "__init__":
        return [module for module in imports_of(path) if module.split(".")[0] == "proxy"]
    wrong = []
    for module in imports_of(path):
        if module.split(".")[0] != "proxy":
            continue
        other = package_of(module)
        if other != own and (own, other) not in BESIDE and LAYER.get(other, 99) >= LAYER[own]:
            wrong.append(module)
    return wrong


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_point_downward_only(path: Path) -> None:
    assert wrong_arrows(path) == []


def test_the_layers_are_those_of_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    (line,) = [line for line in text.splitlines() if "→ app →" in line]
    drawn = [level.strip(" {}").split(", ") for level in line.split("→")]
    levels = sorted({layer for layer in LAYER.values() if layer < 9}, reverse=True)
    here = [[name for name, layer in LAYER.items() if layer == level] for level in levels]
    # telemetry may see config, which stands beside it in the picture.
    here[-2:] = [here[-2] + here[-1]]
    assert [sorted(level) for level in here] == [sorted(level) for level in drawn]


def test_every_package_has_a_layer() -> None:
    assert {package_of_file(path) for path in FILES} - {"__init__"} == set(LAYER)


@pytest.mark.parametrize(
    ("name", "forbidden"),
    [
        ("smpp", {"asyncio", "asyncpg", "time", "socket"}),
        ("gsm", {"asyncio", "asyncpg", "time", "socket"}),
        ("credit", {"asyncio", "asyncpg", "time", "socket"}),
        ("routing", {"asyncio", "asyncpg", "time", "socket"}),
        ("flow", {"asyncpg", "socket"}),
        ("links", {"asyncpg"}),
        ("admin", {"asyncpg"}),
        ("telemetry", {"asyncpg"}),
        ("simulator", {"asyncpg"}),
    ],
)
def test_what_a_package_may_not_use(name: str, forbidden: set[str]) -> None:
    for path in sorted((ROOT / "proxy" / name).glob("*.py")):
        used = {module.split(".")[0] for module in imports_of(path)}
        assert not used & forbidden, path.name


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES_MAX
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_an_arrow_that_points_up_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "proxy" / "smpp" / "wrong.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "import proxy.store.ids\n"
        "from proxy import config, app\n"
        "from proxy.gsm import tpdu\n"
        "from proxy.smpp import tlv\n"
        "from . import udh\n"
        "from ..flow import charge\n"
        "if TYPE_CHECKING:\n"
        "    from proxy.links.connection import SmppConnection\n"
        "def late() -> None:\n"
        "    from proxy.credit.money import MICRO\n"
    )
    assert sorted(wrong_arrows(file)) == [
        "proxy.app", "proxy.credit.money", "proxy.flow", "proxy.gsm", "proxy.links.connection",
        "proxy.store.ids",
    ]  # fmt: skip
