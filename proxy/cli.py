"""The command line: smpp-proxy …, also python -m proxy ….

Exit status: 0 done, 1 refused (with the reason on stderr, in one line), 2 wrong usage.
"""

from __future__ import annotations

import typer

from proxy.commands import accounts, common, credit, operate, past, trying
from proxy.commands.common import ConfigOption

app = common.new_app("An SMPP proxy that makes sending SMS a prepaid service.")


@app.callback()
def before_the_command(ctx: typer.Context, config: ConfigOption = None) -> None:
    """An SMPP proxy that makes sending SMS a prepaid service."""
    ctx.obj = config


app.command("run")(operate.run)
app.command("check")(operate.check)
app.command("migrate")(operate.migrate)
app.add_typer(accounts.app, name="account")
app.add_typer(credit.app, name="credit")
app.command("messages")(past.messages)
app.command("message")(past.message)
app.command("events")(past.events)
app.command("audit")(operate.audit)
app.command("send")(trying.send)
app.add_typer(trying.simulate, name="simulate")


def main() -> None:
    """Run the command that the arguments name."""
    app(prog_name="smpp-proxy")
