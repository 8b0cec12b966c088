"""One account: its credits, settings, logins and sessions."""

from __future__ import annotations

import secrets
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import Response

from proxy.admin.console import account_form
from proxy.admin.console.accounts import binds
from proxy.admin.console.render import sentence
from proxy.admin.console.visit import Visit
from proxy.credit.account_keys import changes_from_text
from proxy.credit.money import micro_from_text, text_from_micro
from proxy.store import account_values, accounts, console, credit, nodes
from proxy.store.ids import id_of_text
from proxy.store.outcomes import Refused

NOTE_MAX: Final = 500


async def account_of(visit: Visit) -> dict[str, Any]:
    """The account that the address names, or a 404."""
    name = visit.part("name")
    row = await console.account(visit.conn, name)
    if row is None:
        visit.not_found(f"There is no account {name}.")
    row["binds"] = (await binds(visit))[name]
    return row


def path_of(name: str, tab: str = "") -> str:
    """The address of an account's page."""
    return f"/accounts/{quote(name, safe='')}" + (f"/{tab}" if tab else "")


# ----------------------------------------------------------------------------- credits


async def credit_log(visit: Visit) -> Response:
    """The first page of an account: Add credits, and where they went."""
    return await _credit_page(visit)


async def _credit_page(visit: Visit, problem: str = "") -> Response:
    before = visit.param("before")
    account = await account_of(visit)
    page = await console.credit_log(visit.conn, account["name"], id_of_text(before))
    return visit.page(
        "account_credit.html",
        status=400 if problem else 200,
        live="account_credit_live.html",
        account=account,
        page=page,
        before=before,
        problem=problem,
        form=visit.form,
        # So that a form that is sent twice adds once.
        key=visit.value("key") or secrets.token_hex(16),
    )


async def add_credit(visit: Visit) -> Response:
    """Add credits; to remove some is asked back first."""
    name = visit.part("name")
    try:
        amount_micro = micro_from_text(visit.value("amount"))
    except ValueError as error:
        return await _credit_page(visit, f"Amount: {error}")
    note = visit.value("note")[:NOTE_MAX]
    if amount_micro < 0 and visit.value("confirmed") != "yes":
        return await _confirm_removal(visit, amount_micro)
    outcome = await credit.add_credit(
        visit.conn,
        name,
        amount_micro,
        note=note or None,
        by=visit.who.name,
        key=visit.value("key")[: credit.KEY_MAX] or None,
        mint=visit.console.context.mint,
    )
    if isinstance(outcome, Refused):
        return await _credit_page(visit, sentence(outcome.reason))
    balance = text_from_micro(outcome.balance_micro)
    what = credit.in_words(abs(amount_micro))
    done = f"{what} {'added' if amount_micro > 0 else 'removed'}. The balance is {balance}."
    if isinstance(outcome, credit.Exists):
        done = f"This was done already, and only once. The balance is {balance}."
    return visit.go(path_of(name), done)


async def _confirm_removal(visit: Visit, amount_micro: int) -> Response:
    account = await account_of(visit)
    balance_micro = micro_from_text(f"{account['balance']:f}")
    return visit.page(
        "credit_confirm.html",
        account=account,
        amount=text_from_micro(amount_micro),
        removed=credit.in_words(-amount_micro),
        left=text_from_micro(balance_micro + amount_micro),
        note=visit.value("note"),
        key=visit.value("key"),
    )


# ---------------------------------------------------------------------------- settings


async def settings(visit: Visit) -> Response:
    """What `account set` can set."""
    return await _settings_page(visit)


async def _settings_page(visit: Visit, problem: str = "", login_problem: str = "") -> Response:
    account = await account_of(visit)
    now = await _current_values(visit)
    tariffs = await console.tariff_names(visit.conn)
    return visit.page(
        "account_settings.html",
        status=400 if problem or login_problem else 200,
        account=account,
        groups=account_form.groups(now, visit.form if problem else {}, tariffs),
        problem=problem,
        login_problem=login_problem,
        form=visit.form,
    )


async def _current_values(visit: Visit) -> dict[str, str]:
    name = visit.part("name")
    now = await account_values.current_values(visit.conn, name)
    if now is None:
        visit.not_found(f"There is no account {name}.")
    return now


async def save_settings(visit: Visit) -> Response:
    """Set what was changed, and nothing else."""
    name = visit.part("name")
    now = await _current_values(visit)
    changed = account_form.changed(now, visit.form)
    if not changed:
        return visit.go(path_of(name, "settings"), "Nothing was changed.")
    try:
        changes = changes_from_text(changed)
    except ValueError as error:
        return await _settings_page(visit, sentence(str(error)))
    outcome = await account_values.set_values(visit.conn, name, changes, by=visit.who.name)
    if not isinstance(outcome, accounts.Changed):
        return await _settings_page(visit, sentence(outcome.reason))
    return visit.go(path_of(name, "settings"), f"Saved: {', '.join(changed)}.")


async def set_login(visit: Visit) -> Response:
    """Another password for a login, or another login."""
    name, system_id = visit.part("name"), visit.value("system_id")
    try:
        changes = changes_from_text(
            {"system_id": system_id, "password": visit.form.get("password", "")}
        )
    except ValueError as error:
        return await _settings_page(visit, login_problem=sentence(str(error)))
    outcome = await account_values.set_values(visit.conn, name, changes, by=visit.who.name)
    if not isinstance(outcome, accounts.Changed):
        return await _settings_page(visit, login_problem=sentence(outcome.reason))
    return visit.go(path_of(name, "settings"), f"{system_id} binds with the new password now.")


async def set_enabled(visit: Visit) -> Response:
    """Let an account send, or keep it from it."""
    name, enabled = visit.part("name"), visit.value("enabled") == "yes"
    outcome = await accounts.set_enabled(visit.conn, name, enabled, by=visit.who.name)
    if not isinstance(outcome, accounts.Changed):
        visit.not_found(sentence(outcome.reason))
    word = "enabled" if enabled else "disabled"
    visit.console.context.record_event(
        f"account_{word}", f"Account {word} by {visit.who.name}", account_id=outcome.account_id
    )
    return visit.go(path_of(name, "settings"), f"{name} is {word}.")


# ---------------------------------------------------------------------------- sessions


async def sessions(visit: Visit) -> Response:
    """Who is bound as this account, on which proxy."""
    account = await account_of(visit)
    return visit.page(
        "account_sessions.html",
        live="account_sessions_live.html",
        account=account,
        sessions=await _sessions(visit, account["name"]),
    )


async def _sessions(visit: Visit, name: str) -> list[dict[str, Any]]:
    return [
        {"node": status.node, **session}
        for status in await nodes.statuses(visit.conn)
        for session in status.status.get("sessions", ())
        if session["account"] == name
    ]


async def end_session(visit: Visit) -> Response:
    """Ask the proxy that has it to end a session."""
    name, wanted = visit.part("name"), (visit.value("node"), visit.value("id"))
    for session in await _sessions(visit, name):
        if (str(session["node"]), str(session["id"])) == wanted:
            await nodes.disconnect(
                visit.conn,
                session["node"],
                session["id"],
                account=name,
                system_id=session["system_id"],
                by=visit.who.name,
            )
            return visit.go(path_of(name, "sessions"), "The session is being ended.")
    return visit.go(path_of(name, "sessions"), "That session has ended already.")
