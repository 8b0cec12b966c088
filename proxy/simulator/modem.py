"""A simulated GSM modem on a pseudo-terminal, for trying the proxy and for fault tests.

It knows what programs made for Huawei, SIMCom and Wavecom modems ask; gammu, gnokii and smstools
are the proof. On request it hangs, lags, talks garbage, loses its network, is pulled out, or
resets at the worst moment.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from proxy.gsm.tpdu import Deliver, Submit
from proxy.simulator.modem_at import AtError, Command, Format, Reply, Terminal
from proxy.simulator.modem_commands import GeneralCommands
from proxy.simulator.modem_inbox import Inbox
from proxy.simulator.modem_network import Network
from proxy.simulator.modem_pty import Port
from proxy.simulator.modem_sms import MessageCommands
from proxy.simulator.modem_state import Device, ModemOptions, SentMessage, Settings, Sim
from proxy.simulator.modem_storage import Storage

__all__ = ["ModemOptions", "SentMessage", "SimulatedModem", "run_modem"]

Where = Literal["prompt", "pdu", "sent"]
"""In AT+CMGS: instead of the prompt, after the TPDU has come, after the network has taken it."""

COMMANDS_KEPT_MAX: Final = 10_000

UNKNOWN: Final = 100
"""+CME ERROR of a command that it does not know."""


class SimulatedModem:
    """The modem. Public attributes may be read, and `options` and the faults set, at any time."""

    def __init__(self, options: ModemOptions | None = None) -> None:
        self.options = options or ModemOptions()
        self.commands: deque[Command] = deque(maxlen=COMMANDS_KEPT_MAX)
        """What came, in order."""
        self.reset_at: Where | None = None
        """It resets the next time that AT+CMGS comes so far."""
        self.hang_at: Where | None = None
        """The same, and it hangs."""
        self.on_traffic: Callable[[str, bytes], None] = lambda _direction, _octets: None
        """Called with "<" and what comes, ">" and what the modem says."""
        self._hung = False
        self._booting = False
        self._garbled = 0
        self._random = random.Random(self.options.seed)  # noqa: S311 - luck, not secrets
        self._timers: set[asyncio.TimerHandle] = set()
        self._link: Path | None = None
        self._tcp_port: int | None = None
        self._port = Port(self.hear)
        self._terminal = Terminal(self)
        self._device = Device(self.options, announce=self._announce, later=self.later)
        self.network = Network(self._device)
        self._inbox = Inbox(self._device, self.network)
        self._device.usable = self._inbox.take
        self._general = GeneralCommands(self._device, self.reset)
        self._messages = MessageCommands(self._device, self.network, self._inbox, self)

    # Running.

    async def start(self, tcp_port: int | None = None, link: Path | None = None) -> None:
        """Open the pty; with a TCP port listen there too (0: a free one, see `tcp_port`).

        `link` becomes a symbolic link to the pty. Raises OSError.
        """
        await self._port.plug_in(link, tcp_port)
        self._link = link
        self._tcp_port = None if tcp_port is None else self._port.tcp_port
        self._booting = False
        self._device.awake = True
        self._inbox.take()

    async def stop(self) -> None:
        """Close everything and forget what is under way; again is harmless."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._device.awake = False
        await self._port.close()

    @property
    def path(self) -> str:
        """Of the pty that programs open; another one after replug()."""
        return self._port.path

    @property
    def tcp_port(self) -> int:
        """Where it listens on 127.0.0.1; 0: it does not."""
        return self._port.tcp_port

    @property
    def command_names(self) -> set[str]:
        """All that it knows: "+CMGS", "E", …"""
        return {*self._general.handlers, *self._messages.handlers}

    @property
    def awake(self) -> bool:
        """It is plugged in, has booted, and does not hang."""
        return self._device.awake

    @property
    def settings(self) -> Settings:
        """What AT commands have set; another object after a reset."""
        return self._device.settings

    @property
    def attended(self) -> bool:
        """A program has the pty open, or is connected."""
        return self._port.attended

    # Messages.

    @property
    def sent(self) -> list[SentMessage]:
        """What the network has taken, in order."""
        return self.network.sent

    @property
    def refuse_with(self) -> Callable[[Submit], int | None] | None:
        """Says which +CMS ERROR a message gets; None: it is taken."""
        return self.network.refuse_with

    @refuse_with.setter
    def refuse_with(self, refuse: Callable[[Submit], int | None] | None) -> None:
        self.network.refuse_with = refuse

    def receive(self, message: Deliver | bytes) -> None:
        """An SMS-DELIVER from the network, or any TPDU's octets; told of as AT+CNMI says.

        Raises TpduError: no TPDU can carry it.
        """
        if isinstance(message, bytes):
            self.network.bring(message)
        else:
            self.network.deliver(message)

    def report(self, message: SentMessage, status: int | None = None) -> None:
        """A status report beside those that come by themselves; None: `report_status`."""
        self.network.report(message, status)

    @property
    def storages(self) -> dict[str, Storage]:
        """By their names: "SM", "ME", and "SR" for reports."""
        return self._device.storages

    @property
    def sim(self) -> Sim:
        """The card."""
        return self._device.sim

    # Faults.

    def hang(self) -> None:
        """Answer nothing; what comes is not even read as commands."""
        self._hung = True
        self._device.awake = False

    def resume(self) -> None:
        """Listen again; what was under way stays without an answer."""
        if self._hung:
            self._hung = False
            self._terminal.reset()
            self._device.awake = self._port.plugged and not self._booting
            self._inbox.take()

    def garble(self, octets: int) -> None:
        """Let so many of the next octets that it says be others."""
        self._garbled = octets

    def say(self, octets: bytes) -> None:
        """Say something, whenever: an unsolicited line in the middle of an answer, noise."""
        self.write(octets)

    @property
    def late_echo(self) -> bool:
        """The echo of a line comes after its answer."""
        return self._terminal.late_echo

    @late_echo.setter
    def late_echo(self, late: bool) -> None:
        self._terminal.late_echo = late

    @property
    def signal(self) -> int:
        """What AT+CSQ tells: 0 to 31, 99 for "not known"."""
        return self._device.signal

    @signal.setter
    def signal(self, value: int) -> None:
        self._device.signal = value

    def lose_network(self) -> None:
        """Not registered any more: messages are refused with +CMS ERROR: 331."""
        self._covered(False)

    def find_network(self) -> None:
        """Registered again; what waited in the network comes."""
        self._covered(True)
        self._inbox.take()

    def _covered(self, covered: bool) -> None:
        before = self._device.registration
        self._device.covered = covered
        self._device.announce_registration(before)

    def reset(self) -> None:
        """Start again, as after a power failure: no answer, settings lost, the PIN wanted."""
        self._hung = False
        self._terminal.reset()
        self._device.power_up()
        self._inbox.power_up()
        self._device.awake = False
        if self._port.plugged and not self._booting:
            self._booting = True
            self.later(self.options.boot_s, self._booted)

    def _booted(self) -> None:
        self._booting = False
        if not self._port.plugged:
            return
        self._device.awake = True
        if self.options.banner:
            self._terminal.announce(self.options.banner)
        self._inbox.take()

    async def unplug(self) -> None:
        """Pull it out: the line hangs up, pty and link are gone, TCP is closed."""
        await self._port.unplug()
        self.reset()

    async def replug(self) -> None:
        """Plug it in again: the pty has another path, the link leads there. Raises OSError."""
        await self._port.plug_in(self._link, self._tcp_port)
        self.reset()

    def at(self, where: str) -> None:
        """AT+CMGS has come so far: go wrong if that was asked for (see modem_sms.Faults)."""
        if self.reset_at == where:
            self.reset_at = None
            self.reset()
            raise AtError
        if self.hang_at == where:
            self.hang_at = None
            self.hang()
            raise AtError

    # What the terminal and the commands ask (modem_at.Host).

    @property
    def format(self) -> Format:
        """How answers are written."""
        return self._device.settings

    def run(self, command: Command) -> Reply:
        """Run a command. Raises AtError when it fails, or is not known."""
        self.commands.append(command)
        if command.name in self.options.failing:
            raise AtError(*self.options.failing[command.name])
        if command.name in self._messages.handlers:
            return self._messages.run(command)
        handler = self._general.handlers.get(command.name)
        if handler is not None:
            return handler(command)
        if command.name.startswith("S"):  # the registers of V.250: nothing here depends on them
            return ["000"] if command.form == "read" else []
        raise AtError("CME" if command.name[0] in "+^" else "", UNKNOWN)

    def write(self, octets: bytes) -> None:
        """Say something."""
        if self._hung:
            return
        if self._garbled:
            noise = self._random.randbytes(min(self._garbled, len(octets)))
            octets = noise + octets[len(noise) :]
            self._garbled -= len(noise)
        self.on_traffic(">", octets)
        self._port.write(octets)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do it after a delay; stop() forgets what is not done."""

        def run() -> None:
            self._timers.discard(timer)
            action()

        timer = asyncio.get_running_loop().call_later(delay_s, run)
        self._timers.add(timer)

    def hear(self, octets: bytes) -> None:
        """What came on the line."""
        self.on_traffic("<", octets)
        if not self._hung and not self._booting:
            self._terminal.receive(octets)

    def _announce(self, line: str) -> None:
        if not self._booting:
            self._terminal.announce(line)


async def run_modem(
    modem: SimulatedModem,
    on_ready: Callable[[SimulatedModem], None],
    *,
    tcp_port: int | None = None,
    link: Path | None = None,
) -> None:
    """Run a modem until SIGINT or SIGTERM; `on_ready` is called once it can be opened.

    Raises OSError: no pty left, the port is taken, the link cannot be made.
    """
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    await modem.start(tcp_port, link)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop.set)
    try:
        on_ready(modem)
        await asked_to_stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await modem.stop()
