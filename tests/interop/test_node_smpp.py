"""node-smpp (the npm package "smpp") as a client."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.running import running_proxy
from support.waiting import eventually

_PACKAGE = "smpp@0.5.1"
_INSTALL_TIMEOUT_S = 90
_CLIENT_TIMEOUT_S = 20

# Prints what it gets, a JSON object a line.
_CLIENT = """
const smpp = require('smpp');
const [port, bind, password, text] = process.argv.slice(1);
const say = (pdu) => console.log(JSON.stringify({
  command: pdu.command, status: pdu.command_status, system_id: pdu.system_id,
  message_id: pdu.message_id, receipted_message_id: pdu.receipted_message_id,
  message_state: pdu.message_state, source_addr: pdu.source_addr,
  text: pdu.short_message && pdu.short_message.message,
}));
const session = smpp.connect({host: '127.0.0.1', port: Number(port)});
const leave = () => session.unbind((pdu) => { say(pdu); session.close(); });
session.on('error', (error) => { console.error(error); process.exit(1); });
session.on('enquire_link', (pdu) => session.send(pdu.response()));
session.on('deliver_sm', (pdu) => { session.send(pdu.response()); say(pdu); leave(); });
session.on('connect', () => session[bind]({system_id: 'demo', password: password}, (pdu) => {
  say(pdu);
  if (pdu.command_status !== 0) return session.close();
  if (bind === 'bind_receiver') return;
  session.submit_sm({
    source_addr: '12345', destination_addr: '447700900123', short_message: text,
    registered_delivery: 1,
  }, (answer) => {
    say(answer);
    if (answer.command_status !== 0 || bind === 'bind_transmitter') leave();
  });
}));
"""


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is, installed once a run; without it the tests are skipped."""
    if os.environ.get("SMPP_PROXY_TEST_NODE") != "1":
        pytest.skip("node-smpp is installed and tried only with SMPP_PROXY_TEST_NODE=1")
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node or npm is missing: install the Debian packages nodejs and npm")
    directory = tmp_path_factory.mktemp("node")
    arguments = [npm, "install", "--prefix", str(directory), "--no-audit", "--no-fund", _PACKAGE]
    try:
        subprocess.run(arguments, check=True, capture_output=True, timeout=_INSTALL_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm could not install {_PACKAGE}: {error}")
    return directory / "node_modules"


async def run_client(
    node_modules: Path,
    port: int,
    *,
    bind: str = "bind_transceiver",
    password: str = "demo",
    text: str = "hello",
) -> list[dict[str, Any]]:
    """What the client got, from its bind to its end."""
    process = await asyncio.create_subprocess_exec(
        "node", "-e", _CLIENT, "--", str(port), bind, password, text,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env={**os.environ, "NODE_PATH": str(node_modules)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(_CLIENT_TIMEOUT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return [json.loads(line) for line in out.splitlines()]


async def test_a_message_its_receipt_and_unbind(database_url: str, node_modules: Path) -> None:
    async with running_proxy(database_url) as run:
        bound, submitted, receipt, unbound = await run_client(node_modules, run.proxy.server.port)
        assert (bound["command"], bound["status"]) == ("bind_transceiver_resp", 0)
        assert bound["system_id"] == "smpp-proxy"
        assert (submitted["command"], submitted["status"]) == ("submit_sm_resp", 0)
        assert receipt["command"] == "deliver_sm"
        assert receipt["receipted_message_id"] == submitted["message_id"]
        assert receipt["text"].startswith(f"id:{submitted['message_id']} ")
        assert "stat:DELIVRD" in receipt["text"]
        assert receipt["message_state"] == 2
        assert receipt["source_addr"] == "447700900123"
        assert (unbound["command"], unbound["status"]) == ("unbind_resp", 0)
        assert run.smsc.submits[0].short_message == b"hello"
        assert await run.balance() == 99
        await run.assert_books_balance()


async def test_a_text_in_ucs2(database_url: str, node_modules: Path) -> None:
    async with running_proxy(database_url) as run:
        text = "Žluťoučký kůň 🐴"
        answers = await run_client(node_modules, run.proxy.server.port, text=text)
        assert answers[1]["status"] == 0
        assert run.smsc.submits[0].short_message == text.encode("utf-16-be")


async def test_transmitter_then_receiver(database_url: str, node_modules: Path) -> None:
    async with running_proxy(database_url) as run:
        port = run.proxy.server.port
        sent = await run_client(node_modules, port, bind="bind_transmitter")
        assert [answer["command"] for answer in sent] == [
            "bind_transmitter_resp", "submit_sm_resp", "unbind_resp",
        ]  # fmt: skip

        async def waits() -> bool:
            return await run.fetchval("SELECT count(*) FROM delivery") == 1

        await eventually(waits)
        got = await run_client(node_modules, port, bind="bind_receiver")
        assert [answer["command"] for answer in got] == [
            "bind_receiver_resp", "deliver_sm", "unbind_resp",
        ]  # fmt: skip
        assert got[1]["receipted_message_id"] == sent[1]["message_id"]


async def test_insufficient_credits_and_a_wrong_password(
    database_url: str, node_modules: Path
) -> None:
    async with running_proxy(database_url, credits=0) as run:
        port = run.proxy.server.port
        bound, refused, unbound = await run_client(node_modules, port)
        assert [bound["status"], refused["status"], unbound["status"]] == [0, 0x45, 0]
        assert [a["status"] for a in await run_client(node_modules, port, password="no")] == [0x0E]
        await run.add_credit("demo", 1)
        assert [a["status"] for a in await run_client(node_modules, port)] == [0, 0, 0, 0]
        await run.assert_books_balance()
