"""smpp-proxy plan …: credits that accounts get each day, week or month."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import typer
from asyncpg import Connection

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption
from proxy.credit.money import text_from_micro
from proxy.credit.plans import Every
from proxy.store import plans
from proxy.store.credit import in_words
from proxy.store.outcomes import Refused

app = common.new_app("Plans: credits that accounts get each day, week or month.")

COLUMNS = {
    "name": "name",
    "credits": "credits",
    "every": "every",
    "roll_over": "roll over",
    "accounts": "accounts",
}

PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="The plan's name.")]
AccountArgument = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's name.")]


@app.command("add")
def add(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plan's name.")],
    amount: Annotated[
        int,
        typer.Option(
            "--credits", parser=common.parse_credits, metavar="N", help="How many each period."
        ),
    ],
    every: Annotated[
        Every, typer.Option("--every", help="Of the calendar, in each account's time zone.")
    ],
    roll_over: Annotated[
        bool,
        typer.Option("--roll-over", help="What is left stays; else it expires with its period."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a plan."""

    async def work(conn: Connection) -> plans.Done | Refused:
        return await plans.create_plan(conn, name, amount, every, roll_over, common.actor())

    outcome = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if not isinstance(outcome, plans.Done):
        common.refuse(outcome.reason)
    if as_json:
        output.print_json(
            {
                "id": outcome.plan_id,
                "name": name,
                "credits": Decimal(text_from_micro(amount)),
                "every": every,
                "roll_over": roll_over,
            }
        )
        return
    output.say(f"Plan {name} is there: {in_words(amount)} each {every}.  Next:")
    output.say(f"  smpp-proxy plan assign {name} ACCOUNT")


@app.command("list")
def list_plans(
    ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List all plans, with the accounts that have them."""
    rows = common.with_database(common.settings_for(ctx, config), plans.list_plans)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(rows, COLUMNS)


@app.command("assign")
def assign(
    ctx: typer.Context,
    *,
    plan: PlanArgument,
    account: AccountArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an account a plan, and this period's credits at once."""

    async def work(conn: Connection) -> plans.Assigned | Refused:
        return await plans.assign(
            conn, plan, account, by=common.actor(), mint=common.mint(), now=datetime.now(UTC)
        )

    outcome = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if not isinstance(outcome, plans.Assigned):
        common.refuse(outcome.reason)
    granted = outcome.granted
    if as_json:
        output.print_json(
            {
                "plan": plan,
                "account": account,
                "period": granted and granted.period,
                "change": Decimal(text_from_micro(granted.amount_micro)) if granted else 0,
                "expires_at": granted and granted.expires_at,
            }
        )
    elif granted is None:
        output.say(f"Account {account} has plan {plan}; this period was granted before")
    else:
        amount, balance = in_words(granted.amount_micro), text_from_micro(granted.balance_micro)
        output.say(
            f"Account {account} has plan {plan}; {amount} granted for {granted.period}, "
            f"the balance is {balance}"
        )


@app.command("end")
def end(
    ctx: typer.Context,
    *,
    plan: PlanArgument,
    account: AccountArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an account's plan; what was granted stays until it expires."""

    async def work(conn: Connection) -> plans.Done | Refused:
        return await plans.end(conn, plan, account, common.actor(), datetime.now(UTC))

    outcome = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if not isinstance(outcome, plans.Done):
        common.refuse(outcome.reason)
    if as_json:
        output.print_json({"plan": plan, "account": account, "ended": True})
    else:
        output.say(f"Account {account} no longer has plan {plan}; what was granted stays")


@app.command("remove")
def remove(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plan's name.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a plan that no account has."""

    async def work(conn: Connection) -> plans.Done | Refused:
        return await plans.remove_plan(conn, name, common.actor())

    outcome = common.with_database(common.settings_for(ctx, config), work, partitions=True)
    if not isinstance(outcome, plans.Done):
        common.refuse(outcome.reason)
    if as_json:
        output.print_json({"plan": name, "removed": True})
    else:
        output.say(f"Plan {name} is removed; what it granted stays")
