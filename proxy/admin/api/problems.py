"""What is answered when something can't be done: problem documents (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5
"""When the database is away."""


class FieldProblem(BaseModel):
    """What is wrong with one value."""

    where: str = Field(description="path, query, header or body", examples=["body"])
    pointer: str = Field(description="The value, as a JSON pointer", examples=["/amount"])
    detail: str = Field(examples=["String should match pattern '^-?[0-9]+$'"])


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(description="What the status means", examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(
        description="One sentence for people", examples=["only 3.5 credits can be removed"]
    )
    errors: list[FieldProblem] = Field(
        default=[], description="The values that are wrong, with status 422"
    )


class Problem(HTTPException):
    """Ends a request with a problem document; `detail` is one sentence for people."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


class ValueProblem(Problem):
    """Values of the body that can't be read: pairs of a JSON pointer and what is wrong there."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__(422, errors[0][1])
        self.errors = [
            FieldProblem(where="body", pointer=pointer, detail=detail) for pointer, detail in errors
        ]


def database_away() -> Problem:
    """The database did not answer: nothing is wrong with the request."""
    return Problem(
        503, "The database does not answer at the moment.", {"Retry-After": str(RETRY_AFTER_S)}
    )


def answer(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[FieldProblem] = (),
) -> Response:
    """A problem document as a response."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        document["errors"] = [error.model_dump() for error in errors]
    return Response(
        json.dumps(document), status, headers={**(headers or {}), "content-type": MEDIA_TYPE}
    )


async def on_http_exception(_request: Request, error: Exception) -> Response:
    """Problems, and what the framework raises itself, such as 404 and 405."""
    assert isinstance(error, StarletteHTTPException)
    detail = str(error.detail)
    if not isinstance(error, Problem):
        detail = _WORDS.get(error.status_code, detail)
    errors = error.errors if isinstance(error, ValueProblem) else ()
    return answer(error.status_code, detail, error.headers, errors)


_WORDS: Final = {404: "There is nothing at this path.", 405: "This path does not know this method."}


async def on_validation_error(_request: Request, error: Exception) -> Response:
    """Values that can't be read; their content is not repeated, passwords may be among them."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return answer(400, "The body is not JSON.")
    errors = [
        FieldProblem(
            where=str(one["loc"][0]),
            pointer="".join(f"/{_escaped(part)}" for part in one["loc"][1:]),
            detail=str(one["msg"]).removeprefix("Value error, "),
        )
        for one in found
    ]
    first = errors[0]
    place = first.pointer or first.where
    return answer(422, f"{first.where} {place}: {first.detail}", errors=errors)


def _escaped(part: object) -> str:
    """A part of a JSON pointer (RFC 6901)."""
    text = str(part).encode("utf-8", "replace").decode()
    return text.replace("~", "~0").replace("/", "~1")
