"""SIGHUP: the routes of the configuration file, without a restart."""

from __future__ import annotations

import signal
from pathlib import Path

from support.books import open_books
from support.esme import SUBMIT_SM, submit_body
from support.faults import ProxyProcess, carrier
from support.waiting import eventually


async def test_a_running_proxy_takes_the_files_new_routes(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        open_books(database_url) as books,
        carrier() as smsc,
        ProxyProcess(tmp_path, smsc, url=database_url) as process,
    ):
        text = process.config.read_text()

        async def reload(routes: str, said: str) -> None:
            process.log.write_text("")
            process.config.write_text(text + routes)
            process.process.send_signal(signal.SIGHUP)
            await eventually(lambda: said in process.log.read_text())

        only_44 = '[[route]]\nprefix = "44"\nupstreams = ["carrier1"]\n'
        process.config.write_text(text + only_44)
        await process.start()
        await books.add_account()
        async with process.esme() as esme:
            await esme.bind()

            async def status_to(destination: bytes) -> int:
                body = submit_body(destination=destination)
                return (await esme.request(SUBMIT_SM, body)).status

            assert [await status_to(d) for d in (b"441", b"331")] == [0, 0x0B]
            await reload(only_44.replace("44", "33"), '"routes": ["33"]')
            assert [await status_to(d) for d in (b"441", b"331")] == [0x0B, 0]
            # What can't be taken changes nothing.
            await reload(only_44 + 'colour = "red"\n', "not_reloaded")
            await reload(only_44.replace("carrier1", "carrier9"), "not_reloaded")
            assert [await status_to(d) for d in (b"441", b"331")] == [0x0B, 0]
            await reload("", '"routes": ["any"]')
            assert [await status_to(d) for d in (b"441", b"331")] == [0, 0]
            await reload(only_44 + "[in_doubt]\nafter_s = 60\n", "restart_needed")
        assert await process.end(signal.SIGTERM) == 0
