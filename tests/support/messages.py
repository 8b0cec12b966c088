"""Messages as the flow hands them to the charge, without a flow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

MICRO = 1_000_000


def bare_message(account_id: int, price_micro: int = MICRO, **values: Any) -> Any:
    """What `ledger.charge` and `ledger.settle` read of a message; of an account without rules."""
    defaults = {
        "account": SimpleNamespace(id=account_id, rules=SimpleNamespace(all_parts=False)),
        "login_id": 1,
        "command_id": 4,
        "source_addr": "1",
        "destination_addr": "2",
        "segments": 1,
        "price_micro": price_micro,
        "price_id": 0,
        "esm_class": 0,
        "data_coding": 0,
        "registered_delivery": 0,
        "retry_hash": 0,
        "part": None,
        "part_key": "",
        "upstreams": (),
        "asked": -1,
        "service": "",
        "prices_micro": (),
        "body": b"",
        "destinations": 1,
        "charge_on": "accept",
        "queue": None,
    }
    assert values.keys() <= defaults.keys()
    return SimpleNamespace(**{**defaults, **values})
