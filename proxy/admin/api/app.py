"""/api/v1 as one application: the routes, their door, and the document that describes them."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Scope

from proxy.admin.api import (
    accounts,
    credit,
    events,
    logins,
    messages,
    plans,
    queue,
    routes,
    sessions,
    statements,
    tariffs,
    upstreams,
)
from proxy.admin.api.access import OWN, ROOT, SCOPE, Doorkeeper, too_large
from proxy.admin.api.problems import (
    MEDIA_TYPE,
    ProblemDocument,
    answer,
    on_http_exception,
    on_validation_error,
)
from proxy.admin.api.reference import reference_page
from proxy.admin.context import Context
from proxy.admin.limits import BodyLimit
from proxy.telemetry.metrics import VERSION

BODY_MAX: Final = 100_000
TARIFF_BODY_MAX: Final = 20_000_000
"""Octets; a tariff of a hundred thousand lines has a few millions."""

_ROUTERS: Final = (
    accounts,
    logins,
    credit,
    statements,
    tariffs,
    plans,
    messages,
    queue,
    events,
    sessions,
    upstreams,
    routes,
)
_SECURITY: Final = "token"
_DESCRIPTION: Final = """\
Everything about accounts and their credits, while the proxies run.

**Tokens.** Every request has the header `Authorization: Bearer sp_…`. `smpp-proxy token create`
makes tokens. Each has a scope: `read` looks, `credit` also adds and removes credits, `admin` does
everything. The token of an account sees that account only, and none of the operator's business.

**Values.** Credits are exact decimals in strings ("12.5"), ids are strings (they have 64 bits),
times are ISO 8601 in UTC.

**Pages.** A list ends with `next`: give it as `cursor` for the next page. Pages stay right while
rows are added.

**Errors** are problem documents (RFC 9457); `detail` is one sentence for people. 503 with a
Retry-After header means that the database is away; nothing was done.
"""
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Api(FastAPI):
    """The sub-application; its OpenAPI document says of every operation who may call it."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            _complete(document)
            self.openapi_schema = document
        return self.openapi_schema


def create_api(context: Context) -> Api:
    """The application to be mounted at ROOT."""
    api = Api(
        title="smpp-proxy",
        version=VERSION,
        description=_DESCRIPTION,
        servers=[{"url": ROOT}],
        root_path_in_servers=False,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={
            StarletteHTTPException: on_http_exception,
            RequestValidationError: on_validation_error,
        },
    )
    api.state.context = context
    api.state.door = Doorkeeper(context)
    for subject in _ROUTERS:
        api.include_router(subject.router)
    api.add_middleware(BodyLimit, limit_of=_limit_of, refuse=_refuse)
    return api


def add_api(app: FastAPI, context: Context) -> None:
    """Mount the API and its reference (/api/docs) in the application of the whole server."""
    api = create_api(context)

    @app.get("/api/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        page = reference_page(api.openapi(), ROOT)
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    @app.get("/api/docs.css", include_in_schema=False)
    def style() -> Response:
        text = resources.files("proxy.admin.api").joinpath("reference.css").read_text("utf-8")
        return Response(text, media_type="text/css")

    app.mount(ROOT, api)


def _limit_of(scope: Scope) -> int:
    is_tariff = scope["method"] == "PUT" and "/tariffs/" in scope["path"]
    return TARIFF_BODY_MAX if is_tariff else BODY_MAX


def _refuse(limit: int) -> ASGIApp:
    problem = too_large(limit)
    return answer(problem.status_code, problem.detail)


def _complete(document: dict[str, Any]) -> None:
    """Add what is the same for all operations: the token, and the problems."""
    components = document.setdefault("components", {})
    components["securitySchemes"] = {
        _SECURITY: {"type": "http", "scheme": "bearer", "description": "sp_ and 43 characters"}
    }
    schemas = components.setdefault("schemas", {})
    for name, model in (("Problem", ProblemDocument), ("NewPrices", tariffs.NewPrices)):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs"))
        schemas[name] = schema
    for name in ("HTTPValidationError", "ValidationError"):  # the framework's, replaced here
        schemas.pop(name, None)
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["security"] = [{_SECURITY: []}]
            responses = operation["responses"]
            responses.update(_problems(operation))
            operation["responses"] = dict(sorted(responses.items()))


def _problems(operation: dict[str, Any]) -> dict[str, Any]:
    who = f"A token with the scope {operation[SCOPE]} is needed"
    if not operation[OWN]:
        who += ", and not that of an account"
    found = {
        "401": _problem("No token, or none that is valid."),
        "403": _problem(f"{who}."),
        "default": _problem("Any other problem; 503: the database is away."),
    }
    parameters = operation.get("parameters", [])
    if any(parameter["in"] == "path" for parameter in parameters):
        found["404"] = _problem("It does not exist, or is not the caller's to see.")
    if parameters or "requestBody" in operation:
        found["422"] = _problem("A value that can't be read; `errors` names each.")
    return found


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
