"""The reference of the API as one page, made from its OpenAPI document: no script, nothing loaded.

It shows what the document says, and nothing that is not in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from typing import Any, Final

from proxy.admin.api.access import OWN, SCOPE

Document = dict[str, Any]

_REF: Final = "#/components/schemas/"


def reference_page(document: Document, root: str) -> str:
    """A whole HTML page; `root` is the path of the API."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            shown = _operation(method.upper(), root + path, operation, document)
            by_tag.setdefault(operation["tags"][0], []).append(shown)
    info = document["info"]
    links = "".join(f'<li><a href="#{_anchor(tag)}">{escape(tag)}</a></li>' for tag in by_tag)
    sections = "".join(
        f'<section id="{_anchor(tag)}"><h2>{escape(tag)}</h2>{"".join(shown)}</section>'
        for tag, shown in by_tag.items()
    )
    schemas = "".join(
        _schema_section(name, schema)
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title>"
        '<link rel="stylesheet" href="/api/docs.css"></head><body>'
        f"<header><h1>{escape(info['title'])} API</h1>"
        f"<p>Version {escape(info['version'])}. As a document: "
        f'<a href="{escape(root)}/openapi.json">OpenAPI</a>.</p></header>'
        f'<nav aria-label="Subjects"><ul>{links}<li><a href="#schemas">Schemas</a></li></ul></nav>'
        f"<main>{_paragraphs(info.get('description', ''))}{sections}"
        f'<section id="schemas"><h2>Schemas</h2>{schemas}</section></main></body></html>'
    )


def _operation(method: str, path: str, operation: dict[str, Any], document: Document) -> str:
    scope = f"scope {operation[SCOPE]}"
    if operation[OWN]:
        scope += ", or the token of the account"
    parts = [
        f'<article><h3><code class="method {method.lower()}">{method}</code> '
        f"<code>{escape(path)}</code></h3>",
        f"<p><strong>{escape(operation['summary'])}</strong> "
        f'<span class="scope">{escape(scope)}</span></p>',
        _paragraphs(operation.get("description", "")),
    ]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = "".join(map(_parameter, parameters))
        parts.append(_table(("parameter", "in", "type", ""), rows))
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        parts.append(f"<p>Body: {_content(content)}</p>")
        parts.append(_example(content, document))
    rows = "".join(
        f"<tr><td>{escape(status)}</td><td>{_content(found.get('content', {}))}</td>"
        f"<td>{escape(found['description'])}</td></tr>"
        for status, found in operation["responses"].items()
    )
    parts.append(_table(("status", "body", ""), rows))
    return "".join(parts) + "</article>"


def _parameter(parameter: dict[str, Any]) -> str:
    name = escape(parameter["name"]) + (" *" if parameter.get("required") else "")
    return (
        f"<tr><td><code>{name}</code></td><td>{escape(parameter['in'])}</td>"
        f"<td>{_type(parameter['schema'])}</td>"
        f"<td>{escape(parameter.get('description', ''))}</td></tr>"
    )


def _schema_section(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(key)}{' *' if key in required else ''}</code></td>"
        f"<td>{_type(value)}</td><td>{escape(value.get('description', ''))}</td></tr>"
        for key, value in schema.get("properties", {}).items()
    )
    about = _paragraphs(schema.get("description", ""))
    table = _table(("field", "type", ""), rows) if rows else ""
    return f'<article id="{_anchor(name)}"><h3>{escape(name)}</h3>{about}{table}</article>'


def _type(schema: dict[str, Any]) -> str:
    """A type in a few words, as HTML."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return f'<a href="#{_anchor(name)}">{escape(name)}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(map(_type, schema[key]))
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    words = escape(str(schema.get("format") or schema.get("type", "anything")))
    examples: Iterable[Any] = schema.get("examples", ())
    shown = ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in examples)
    return f"{words}, such as {shown}" if shown else words


def _content(content: dict[str, Any]) -> str:
    return " or ".join(
        f"{_type(found['schema'])} <small>{escape(media)}</small>"
        if found.get("schema")
        else f"<small>{escape(media)}</small>"
        for media, found in content.items()
    )


def _example(content: dict[str, Any], document: Document) -> str:
    """The body of a request, made of the examples of its fields."""
    schema = content.get("application/json", {}).get("schema", {})
    if "$ref" not in schema:
        return ""
    found = document["components"]["schemas"][schema["$ref"].removeprefix(_REF)]
    values = {
        key: value["examples"][0]
        for key, value in found.get("properties", {}).items()
        if value.get("examples")
    }
    return f"<pre><code>{escape(json.dumps(values, indent=2))}</code></pre>" if values else ""


def _table(headings: Iterable[str], rows: str) -> str:
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _paragraphs(text: str) -> str:
    """Paragraphs with `code` and **strong**, which is all of Markdown that the document uses."""
    html = ""
    for paragraph in filter(None, (part.strip() for part in text.split("\n\n"))):
        inner = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(paragraph, quote=False))
        html += "<p>" + re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", inner) + "</p>"
    return html


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
