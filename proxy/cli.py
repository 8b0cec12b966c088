"""The command line: smpp-proxy …, also python -m proxy ….

Exit status: 0 done, 1 refused (with the reason on stderr, in one line), 2 wrong usage.
"""

from __future__ import annotations

from typing import Annotated

import typer

from proxy.commands import (
    accounts,
    common,
    credit,
    operate,
    operators,
    past,
    plans,
    pricing,
    queue,
    routes,
    statement,
    tariffs,
    tokens,
    trying,
    upstreams,
)
from proxy.commands.common import ConfigOption
from proxy.telemetry.metrics import VERSION

app = common.new_app("An SMPP proxy that makes sending SMS a prepaid service.")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smpp-proxy {VERSION}")
        raise typer.Exit


@app.callback()
def before_the_command(
    ctx: typer.Context,
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="And exit.")
    ] = False,
) -> None:
    """An SMPP proxy that makes sending SMS a prepaid service."""
    ctx.obj = config


app.command("run")(operate.run)
app.command("check")(operate.check)
app.command("migrate")(operate.migrate)
app.add_typer(accounts.app, name="account")
app.add_typer(credit.app, name="credit")
app.add_typer(plans.app, name="plan")
app.add_typer(tariffs.app, name="tariff")
app.command("price")(pricing.price)
app.add_typer(upstreams.app, name="upstream")
app.add_typer(routes.app, name="route")
app.add_typer(queue.app, name="queue")
app.add_typer(tokens.app, name="token")
app.add_typer(operators.app, name="operator")
app.command("statement")(statement.statement)
app.command("messages")(past.messages)
app.command("message")(past.message)
app.command("events")(past.events)
app.command("audit")(operate.audit)
app.command("send")(trying.send)
app.add_typer(trying.simulate, name="simulate")


def main() -> None:
    """Run the command that the arguments name."""
    app(prog_name="smpp-proxy")
