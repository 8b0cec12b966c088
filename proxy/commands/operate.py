"""smpp-proxy run, check, migrate, audit: what keeps the proxy going."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from proxy import config as configuration
from proxy.commands import common, output
from proxy.commands.advice import unreadable_files
from proxy.commands.advice import warnings as warnings_about
from proxy.commands.common import ConfigOption, JsonOption
from proxy.config import ConfigError
from proxy.credit.cells import printable
from proxy.store.audit import audit as run_audit
from proxy.store.migrations import migrate as run_migrations


def run(
    ctx: typer.Context,
    tour: Annotated[
        bool, typer.Option("--tour", help="Also send a few messages and say what happens.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Run the proxy, until SIGTERM or Ctrl-C.

    Without a configuration file: with its own PostgreSQL, a simulated carrier, and the account
    demo (password demo) with 100 credits.
    """
    settings = common.settings_for(ctx, config)
    from proxy.serve import run as run_proxy  # noqa: PLC0415 - only this command needs all of it

    embedded_default = common.config_path(ctx, config) is None
    raise typer.Exit(run_proxy(settings, embedded_default=embedded_default, tour=tour))


def check(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say what is wrong with the configuration file, with the path of each key."""
    path = common.config_path(ctx, config)
    errors: list[str] = []
    warnings: list[str] = []
    try:
        settings = configuration.load(path)
        warnings = warnings_about(settings)
        errors = list(unreadable_files(settings))
    except ConfigError as error:
        errors = str(error).splitlines()
    if as_json:
        file = None if path is None else str(path)
        output.print_json({"file": file, "ok": not errors, "errors": errors, "warnings": warnings})
    else:
        for warning in warnings:
            output.note(f"warning: {warning}")
        for line in errors[:-1]:
            output.note(line)
    if errors:
        common.refuse("; ".join(errors) if as_json else errors[-1])
    if not as_json:
        output.say(f"{path or 'The built-in configuration'} is valid")


def migrate(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the database to this version; safe while proxies run, and to repeat."""
    settings = common.settings_for(ctx, config)

    applied = common.with_bare_database(settings, run_migrations)
    if as_json:
        output.print_json({"applied": applied})
    else:
        output.say("applied: " + ", ".join(applied) if applied else "the database is up to date")


def audit(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Re-derive every balance and check the promises; exit status 1 when one is broken."""
    findings = common.with_database(common.settings_for(ctx, config), run_audit)
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            output.say(printable(f"{finding.check}: {finding.account}: {finding.detail}"))
    if findings:
        common.refuse(f"the books do not balance: {len(findings)} findings")
    if not as_json:
        output.say("the books balance")
