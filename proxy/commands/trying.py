"""smpp-proxy send, simulate: a client, a carrier and a modem, for trying the proxy."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from proxy.commands import common, output
from proxy.commands.common import ConfigOption, JsonOption
from proxy.credit.cells import printable
from proxy.gsm.alphabet import encode_gsm
from proxy.gsm.tpdu import Deliver, Number
from proxy.simulator import client, modem_text
from proxy.simulator.modem import ModemOptions, SentMessage, SimulatedModem, run_modem
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions, run_smsc
from proxy.smpp.vocabulary import ESME_ROK, ESME_RTHROTTLED, status_name

SMSC_PORT = 2776
"""Beside the port that the proxy listens on."""

RECEIPT_WAIT_S = 10.0

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what the file may say


def send(
    ctx: typer.Context,
    *,
    to: Annotated[str, typer.Option("--to", help="The destination address.")],
    text: Annotated[str, typer.Option("--text", help="What to send.")],
    source: Annotated[str, typer.Option("--from", help="The source address.")] = "",
    host: Annotated[str | None, typer.Option("--host", help="Else the configured one.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Else the configured one.")
    ] = None,
    system_id: Annotated[str, typer.Option("--system-id")] = "demo",
    password: Annotated[str, typer.Option("--password")] = "demo",  # noqa: S107 - the demo's
    receipt: Annotated[
        bool, typer.Option("--receipt", help=f"Wait up to {RECEIPT_WAIT_S:.0f} s for receipts.")
    ] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="In seconds.")] = 30.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send one text through the proxy; a long one takes several messages."""
    if host is None or port is None:
        smpp = common.settings_for(ctx, config).smpp
        host = host or _EVERYWHERE.get(smpp.host, smpp.host)
        port = port or smpp.port
    if port == 0:
        raise typer.BadParameter("the configured port is 0, any free one: say which with --port")

    async def work() -> list[client.SendResult]:
        return await client.send(
            host,
            port,
            system_id,
            password,
            source=source,
            destination=to,
            text=text,
            registered_delivery=receipt,
            wait_receipt_s=RECEIPT_WAIT_S if receipt else 0.0,
            timeout_s=timeout_s,
        )

    try:
        results = asyncio.run(work())
    except client.BindRefused as error:
        common.refuse(str(error))
    except TimeoutError:
        common.refuse(f"{host}:{port} did not answer in {timeout_s:g} s")
    except ConnectionRefusedError:
        common.refuse(f"nothing listens at {host}:{port}; is the proxy running?")
    except OSError as error:
        common.refuse(f"{host}:{port}: {error}")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    _print_results(results, receipt, as_json)


def _print_results(results: list[client.SendResult], receipt: bool, as_json: bool) -> None:
    """Print what became of each part, and end with 1 when one was refused."""
    if as_json:
        output.print_json([_as_json(result) for result in results])
    for result in results:
        if result.status == ESME_ROK and not as_json:
            seen = f", receipt {result.receipt or 'not seen'}" if receipt else ""
            output.say(printable(f"accepted, message_id {result.message_id}{seen}"))
    refused = [result.status for result in results if result.status != ESME_ROK]
    if refused:
        of_how_many = f" {len(refused)} of {len(results)} parts:" if len(results) > 1 else ""
        common.refuse(f"refused:{of_how_many} {status_name(refused[0])} (0x{refused[0]:08X})")


def _as_json(result: client.SendResult) -> dict[str, object]:
    """The proxy's ids are numbers, as everywhere; another server's may be any text."""
    message_id = result.message_id
    number = int(message_id) if message_id.isascii() and message_id.isdigit() else None
    same = number is not None and str(number) == message_id
    return asdict(result) | {
        "message_id": number if same else message_id or None,
        "status_name": status_name(result.status),
    }


simulate = common.new_app("Something to try the proxy against.")


@simulate.callback()
def before_simulate() -> None:
    """Something to try the proxy against."""


@simulate.command("smsc")
def smsc(
    *,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = SMSC_PORT,
    system_id: Annotated[str, typer.Option(help="Its own, in bind responses.")] = "SIMULATOR",
    password: Annotated[str, typer.Option(help="What a bind must bring; empty: any.")] = "",
    response_delay_s: Annotated[float, typer.Option("--response-delay", min=0)] = 0.0,
    receipt_delay_s: Annotated[float, typer.Option("--receipt-delay", min=0)] = 0.1,
    receipts: Annotated[
        bool, typer.Option("--receipts/--no-receipts", help="Send receipts when asked to.")
    ] = True,
    refuse_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of submits that are refused.")
    ] = 0.0,
    refuse_status: Annotated[
        str, typer.Option(metavar="STATUS", help="With this command_status, such as 0x58.")
    ] = f"0x{ESME_RTHROTTLED:02X}",
    silence_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of submits that are never answered.")
    ] = 0.0,
    fail_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of messages that end UNDELIV.")
    ] = 0.0,
    response_ids: Annotated[
        Literal["hex", "decimal"], typer.Option(help="Message ids in responses.")
    ] = "decimal",
    receipt_ids: Annotated[
        Literal["hex", "decimal"], typer.Option(help="Message ids in receipts.")
    ] = "decimal",
    id_width: Annotated[
        int, typer.Option(min=0, max=64, help="Digits of an id, with leading zeros.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="The same seed, the same luck.")] = 0,
) -> None:
    """Run a simulated carrier, until SIGTERM or Ctrl-C.

    Destinations that begin with 999 are refused.  Delays are in seconds, rates shares from
    0 to 1.
    """
    options = SmscOptions(
        host=host,
        port=port,
        system_id=system_id,
        password=password,
        response_delay_s=response_delay_s,
        receipt_delay_s=receipt_delay_s,
        receipts=receipts,
        refuse_rate=refuse_rate,
        refuse_status=_status(refuse_status),
        silence_rate=silence_rate,
        fail_rate=fail_rate,
        response_ids=response_ids,
        receipt_ids=receipt_ids,
        id_width=id_width,
        seed=seed,
    )
    try:
        asyncio.run(run_smsc(options, _say_ready))
    except OSError as error:
        common.refuse(f"cannot listen on {host}:{port}: {error.strerror or error}")


def _status(text: str) -> int:
    try:
        status = int(text, 0)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number") from None
    if not 0 < status <= 0xFFFF_FFFF:
        raise typer.BadParameter(f"{text!r} is not a command_status of an error")
    return status


def _say_ready(carrier: SimulatedSmsc) -> None:
    output.say(f"ready smpp={carrier.options.host}:{carrier.port}")


@simulate.command("modem")
def modem(
    *,
    pin: Annotated[
        str | None, typer.Option(help="What the SIM wants first: 4 to 8 digits.")
    ] = None,
    link: Annotated[Path | None, typer.Option(help="Make this a symbolic link to the pty.")] = None,
    tcp: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Listen on this port too, as ser2net; 0: any."),
    ] = None,
    send_delay_s: Annotated[float, typer.Option("--send-delay", min=0)] = 0.0,
    report_delay_s: Annotated[float, typer.Option("--report-delay", min=0)] = 0.2,
    report_status: Annotated[
        int, typer.Option(min=0, max=255, help="TP-Status of status reports; 0: delivered.")
    ] = 0,
    receive: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER:TEXT", help="A phone has sent this; may be repeated."),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Print the AT dialogue on stderr.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a simulated GSM modem on a pseudo-terminal, until SIGTERM or Ctrl-C.

    The first line is the pty's path, each one after it a message that was sent: its number, and
    the text, or hexadecimal octets of what is no text.  Delays are in seconds.
    """
    if pin is not None and not (pin.isascii() and pin.isdigit() and 4 <= len(pin) <= 8):
        raise typer.BadParameter("a PIN has 4 to 8 digits")
    options = ModemOptions(pin=pin, send_delay_s=send_delay_s, report_delay_s=report_delay_s)
    options.report_status = report_status
    received = [_received(one) for one in receive or ()]
    simulated = SimulatedModem(options)
    say_sent = _say_sent_as_json if as_json else _say_sent

    def on_sent(message: SentMessage) -> None:
        with suppress(BrokenPipeError):  # the modem goes on, whoever read our output is gone
            say_sent(message)

    simulated.network.on_sent = on_sent
    if log:
        simulated.on_traffic = lambda direction, octets: output.note(
            f"{direction} {ascii(octets.decode('latin-1'))[1:-1]}"
        )

    def ready(running: SimulatedModem) -> None:
        if as_json:
            output.print_json({"path": running.path, "tcp_port": running.tcp_port or None})
        else:
            output.say(running.path)
            if running.tcp_port:
                output.note(f"listening on 127.0.0.1:{running.tcp_port}")
        for message in received:
            running.receive(message)

    try:
        asyncio.run(run_modem(simulated, ready, tcp_port=tcp, link=link))
    except OSError as error:
        common.refuse(f"cannot start the modem: {error.strerror or error}")


def _received(text: str) -> Deliver:
    """What a phone sent, from NUMBER:TEXT."""
    number, _, said = text.partition(":")
    digits = number.removeprefix("+")
    if not said or not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise typer.BadParameter("give NUMBER:TEXT, such as 447700900777:hello")
    septets = encode_gsm(said)
    octets = said.encode("utf-16-be") if septets is None else septets
    if len(octets) > (140 if septets is None else 160):
        raise typer.BadParameter("the text should fit into one message")
    return Deliver(
        source=Number(1, 1, digits),
        protocol_id=0,
        data_coding=8 if septets is None else 0,
        sent_at_s=time.time(),
        udhi=False,
        more_to_send=False,
        report_wanted=False,
        reply_path=False,
        user_data=octets,
    )


def _say_sent(message: SentMessage) -> None:
    submit = message.submit
    text = modem_text.printable_text(submit)
    shown = submit.user_data.hex().upper() if text is None else text
    output.say(printable(f"{modem_text.number_text(submit.destination)} {shown}"))


def _say_sent_as_json(message: SentMessage) -> None:
    submit = message.submit
    header, _ = modem_text.split_header(submit)
    output.print_json(
        {
            "to": modem_text.number_text(submit.destination),
            "text": modem_text.printable_text(submit),
            "udh": header.hex().upper() or None,
            "data_coding": submit.data_coding,
            "reference": message.mr,
            "report": submit.report,
            "smsc": message.smsc,
            "tpdu": message.tpdu.hex().upper(),
        }
    )
