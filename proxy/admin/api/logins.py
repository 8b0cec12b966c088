"""Logins: what the clients of an account bind with."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from proxy.admin.api.access import Here, Route, need, no_account
from proxy.admin.api.accounts import Password, SystemId
from proxy.admin.api.problems import Problem
from proxy.admin.api.shapes import TEXT_PATTERN, AccountName, Model, Name
from proxy.store import logins
from proxy.store.accounts import SYSTEM_ID_OCTETS
from proxy.store.outcomes import NotFound, Refused

router = APIRouter(route_class=Route, tags=["Logins"])

SystemIdPath = Annotated[
    str, Path(pattern=TEXT_PATTERN, min_length=1, max_length=SYSTEM_ID_OCTETS, examples=["demo"])
]


class Login(BaseModel):
    """A login; its password can't be read."""

    account: Name
    system_id: str = Field(examples=["demo"])


class Logins(BaseModel):
    """All logins of an account."""

    items: list[Login]


class NewLogin(Model):
    """A login that is to be added."""

    system_id: SystemId
    password: Password


class NewPassword(Model):
    """A password that is to be set."""

    password: Password


@router.get("/accounts/{name}/logins", summary="List logins", openapi_extra=need("read", own=True))
async def list_logins(call: Here, name: AccountName) -> Logins:
    """All of an account, oldest first."""
    async with call.database() as conn:
        found = await logins.list_logins(conn, call.account(name))
    if found is None:
        raise no_account(name)
    return Logins(items=[Login(account=name, system_id=system_id) for system_id in found])


@router.post(
    "/accounts/{name}/logins", status_code=201, summary="Add a login", openapi_extra=need("admin")
)
async def add_login(call: Here, name: AccountName, new: NewLogin) -> Login:
    """409: an account, this or another, has this system_id."""
    async with call.database() as conn:
        outcome = await logins.add_login(conn, name, new.system_id, new.password, by=call.by)
    if isinstance(outcome, NotFound):
        raise no_account(name)
    if isinstance(outcome, Refused):
        raise Problem(409, outcome.reason)
    return Login(account=name, system_id=new.system_id)


@router.put(
    "/accounts/{name}/logins/{system_id:path}",
    summary="Set a password",
    openapi_extra=need("admin"),
)
async def set_password(
    call: Here, name: AccountName, system_id: SystemIdPath, new: NewPassword
) -> Login:
    """Sessions that are bound stay."""
    async with call.database() as conn:
        outcome = await logins.set_password(conn, name, system_id, new.password, by=call.by)
    if isinstance(outcome, Refused):
        raise Problem(404, outcome.reason)
    return Login(account=name, system_id=system_id)


@router.delete(
    "/accounts/{name}/logins/{system_id:path}",
    status_code=204,
    summary="Remove a login",
    openapi_extra=need("admin"),
)
async def remove_login(call: Here, name: AccountName, system_id: SystemIdPath) -> Response:
    """Its sessions end at once, on every proxy."""
    async with call.database() as conn:
        outcome = await logins.remove_login(conn, name, system_id, by=call.by)
    if isinstance(outcome, Refused):
        raise Problem(404, outcome.reason)
    return Response(status_code=204)
