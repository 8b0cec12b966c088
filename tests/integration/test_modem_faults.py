"""A modem that hangs, resets, talks garbage, loses its network or is pulled out comes back.

And whatever happens, nothing that was written is written again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from support.modem_flow import Rig, message, rig
from support.waiting import eventually

from proxy.links import modem_port, modem_upstream
from proxy.simulator.modem import ModemOptions
from proxy.smpp import vocabulary as smpp


def texts(r: Rig) -> list[bytes]:
    return [sent.submit.user_data for sent in r.modem.sent]


async def test_silence_behind_a_pdu_is_a_doubt_and_the_next_is_sent() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.hang_at = "sent"
        first, second = message(b"1"), message(b"2")
        upstream.send([first, second])
        await eventually(lambda: [m for m, _ in r.flow.doubts] == [first])
        r.modem.resume()
        await eventually(lambda: [m for m, *_ in r.flow.answers] == [second])
        assert texts(r) == [b"1", b"2"]


async def test_a_late_answer_ends_the_doubt() -> None:
    async with rig(ModemOptions(send_delay_s=0.3)) as r:
        upstream = await r.started(answer_timeout_s=0.2)
        upstream.send([message()])
        await eventually(lambda: len(r.flow.doubts) == 1)
        await eventually(lambda: len(r.flow.answers) == 1)
        (_, status, _, late) = r.flow.answers[0]
        assert (status, late) == (0, True)
        assert "upstream_lost" not in r.flow.kinds()


async def test_silence_instead_of_the_prompt_is_no_doubt() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.hang_at = "prompt"
        upstream.send([message(b"1"), message(b"2")])
        await eventually(lambda: not upstream.bound)
        r.modem.resume()
        await eventually(lambda: r.flow.statuses == [0, 0])
        assert texts(r) == [b"1", b"2"]
        assert not r.flow.doubts


@pytest.mark.parametrize(("where", "doubt"), [("prompt", False), ("pdu", True), ("sent", True)])
async def test_a_reset_in_the_middle_of_cmgs(where: Any, doubt: bool) -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.reset_at = where
        first, second = message(b"1"), message(b"2")
        upstream.send([first, second])
        await eventually(lambda: second in [m for m, *_ in r.flow.answers])
        assert [m for m, _ in r.flow.doubts] == ([first] if doubt else [])
        assert texts(r).count(b"1") == (0 if where == "pdu" else 1)
        assert texts(r).count(b"2") == 1


async def test_a_report_can_settle_a_message_whose_number_nobody_heard() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.reset_at = "sent"
        upstream.send([message(b"1", registered_delivery=1, source=b"777")])
        await eventually(lambda: len(r.flow.doubts) == 1)
        await eventually(lambda: bool(r.flow.arrivals))
        # The addresses by which the database finds the one message in doubt.
        assert b"447700900123\0" in r.flow.arrivals[0]
        assert b"777\0" in r.flow.arrivals[0]


async def test_a_reset_between_two_messages_is_noticed() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.reset()
        await eventually(lambda: not upstream.bound)
        await eventually(lambda: upstream.bound)
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [0])


async def test_a_silent_reset_shows_by_its_echo() -> None:
    async with rig(ModemOptions(banner="")) as r:
        upstream = await r.started()
        r.modem.reset()
        await eventually(lambda: r.modem._device.awake)
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [0])
        assert not r.flow.doubts
        assert texts(r) == [b"hello"]
        assert "upstream_lost" in r.flow.kinds()


async def test_a_modem_that_hangs_is_started_anew() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.hang()
        upstream._watch.look_soon()
        await eventually(lambda: upstream.state == "down")
        r.modem.resume()
        await eventually(lambda: upstream.bound)


@pytest.mark.parametrize("octets", [1, 30, 100])
async def test_garbage_is_survived(octets: int) -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.garble(octets)
        messages = [message(b"%d" % i) for i in range(4)]
        upstream.send(messages)
        await eventually(lambda: len(r.flow.doubts) + len(r.flow.answers) == 4)
        assert len(set(texts(r))) == len(texts(r))
        doubtful = {m.id for m, _ in r.flow.doubts}
        answered = {m.id for m, status, *_ in r.flow.answers if status == 0}
        assert len(answered | doubtful) == 4
        await eventually(lambda: upstream.bound)


async def test_noise_between_answers_is_nothing() -> None:
    async with rig() as r:
        upstream = await r.started()
        for noise in (b"\r\n^RSSI: 17\r\n", b"\r\nOK\r\n", b"\r\n> \r\n", b"\r\nRING\r\n", b"\r\n"):
            r.modem.say(noise)
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [0])
        assert "upstream_lost" not in r.flow.kinds()


async def test_a_flood_of_garbage_ends_the_link() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.say(bytes(5000))
        r.modem.say(b"\r\n" + bytes(5000))
        await eventually(lambda: "upstream_lost" in r.flow.kinds())
        await eventually(lambda: upstream.bound)


async def test_without_a_network_nothing_is_sent_and_it_is_found_again() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.lose_network()
        await eventually(lambda: not upstream.bound)
        assert upstream.state == "no network"
        upstream.send([message()])
        r.modem.find_network()
        await eventually(lambda: r.flow.statuses == [0])
        assert upstream.state == "up"


async def test_pulled_out_and_back_under_another_path(tmp_path: Path) -> None:
    link = tmp_path / "modem"
    async with rig(link=link) as r:
        upstream = await r.started(device=str(link))
        before = link.readlink()
        await r.modem.unplug()
        await eventually(lambda: upstream.state == "down")
        upstream.send([message()])
        await r.modem.replug()
        assert link.readlink() != before
        await eventually(lambda: r.flow.statuses == [0])
        assert ("upstream_lost", "Upstream modem can't send: the device hung up") in r.flow.events


async def test_usb_is_looked_for_again_each_time() -> None:
    async with rig() as r:
        ports: list[str] = ["/nowhere", r.modem.path]
        with patch.object(modem_port, "_usb_ports", lambda _device: list(ports)):
            upstream = await r.started(device="usb:12d1:1506")
            await r.modem.unplug()
            await eventually(lambda: not upstream.bound)
            ports.clear()
            await eventually(lambda: any("is not there" in text for _, text in r.flow.events))
            await r.modem.replug()
            ports.append(r.modem.path)
            await eventually(lambda: upstream.bound)


async def test_pulled_out_for_long_the_messages_go_elsewhere() -> None:
    async with rig() as r:
        upstream = await r.started()
        with patch.object(modem_upstream, "AWAY_S", 0.1):
            await r.modem.unplug()
            await eventually(lambda: upstream.state == "down")
            waiting = message()
            upstream.send([waiting])
            await eventually(lambda: r.flow.forwarded == [waiting])
        assert not r.flow.answers


async def test_half_sent_and_away_for_long_is_refused_and_not_sent_twice() -> None:
    async with rig() as r:
        upstream = await r.started()

        def pull(_submit: Any) -> None:
            r.modem.reset_at = "prompt"
            r.modem.options.boot_s = 60

        r.modem.refuse_with = pull
        payload = b"\x04\x24\x01\x90" + b"x" * 400
        with patch.object(modem_upstream, "AWAY_S", 0.1):
            upstream.send([message(b"", tlvs=payload)])
            await eventually(lambda: r.flow.statuses == [smpp.ESME_RSUBMITFAIL])
        assert len(r.modem.sent) == 1
        assert not r.flow.forwarded


async def test_half_sent_it_goes_on_when_the_modem_is_back() -> None:
    async with rig() as r:
        upstream = await r.started()
        resets = iter([True])

        def pull(_submit: Any) -> None:
            if next(resets, False):
                r.modem.reset_at = "prompt"

        r.modem.refuse_with = pull
        payload = b"\x04\x24\x01\x90" + b"x" * 400
        upstream.send([message(b"", tlvs=payload)])
        await eventually(lambda: r.flow.statuses == [0])
        assert [sent.submit.user_data[5] for sent in r.modem.sent] == [1, 2, 3]
        assert len({sent.submit.user_data[3] for sent in r.modem.sent}) == 1


async def test_over_tcp_and_through_a_broken_connection() -> None:
    async with rig(tcp_port=0) as r:
        upstream = await r.started(device=f"tcp://127.0.0.1:{r.modem.tcp_port}")
        upstream.send([message(b"1")])
        await eventually(lambda: r.flow.statuses == [0])
        await r.modem.unplug()
        await eventually(lambda: not upstream.bound)
        await r.modem.replug()
        upstream.send([message(b"2")])
        await eventually(lambda: r.flow.statuses == [0, 0])
        assert texts(r) == [b"1", b"2"]


async def test_an_open_door_that_is_no_modem() -> None:
    async with rig(tcp_port=0) as r:
        r.modem.hang()
        upstream = r.upstream(device=f"tcp://127.0.0.1:{r.modem.tcp_port}")
        upstream.start()
        await eventually(lambda: any("no answer to AT" in text for _, text in r.flow.events))
        assert upstream.state == "down"
        assert r.flow.kinds().count("upstream_down") == 1
        r.modem.resume()
        await eventually(lambda: upstream.bound)


async def test_a_modem_that_refuses_everything_is_started_anew() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.refuse_with = lambda _submit: 500
        upstream.send([message() for _ in range(5)])
        await eventually(lambda: len(r.flow.answers) == 5)
        await eventually(lambda: "upstream_lost" in r.flow.kinds())
        await eventually(lambda: upstream.bound)
