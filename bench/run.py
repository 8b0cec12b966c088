#!/usr/bin/env python3
"""Measure the proxy between a load generator and a carrier sink (both in C, beside this file).

    python bench/run.py [--runs 3] [--count 60000] [--only NAME]

Everything runs on this machine: the load, the proxy with its embedded PostgreSQL (fsync and
synchronous_commit on), the sink.  Each case is run several times and the medians are printed,
with the CPU time of the proxy and of PostgreSQL per 1,000 messages.  The first row has nothing
between load and sink: it tells how fast the machine is at this moment.  Afterwards the audit must
find nothing, and what the carrier got must be what was charged.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BIN = HERE / "bin"
SMPP_PORT, SINK_PORT = 12775, 12776
CASES = {
    "window 1": ["--sessions", "1", "--window", "1", "--count", "3000"],
    "window 50": ["--sessions", "4", "--window", "50"],
    "window 200": ["--sessions", "4", "--window", "200"],
    "rules": ["--sessions", "4", "--window", "50", "--system-id", "ruled"],
    "receipts": ["--sessions", "4", "--window", "50", "--registered-delivery", "1"],
    "1000 accounts": ["--sessions", "1000", "--window", "5", "--accounts", "1000"],
}
CONFIG = """
[database]
url = "embedded"
data_dir = "{data_dir}"
[smpp]
port = {smpp_port}
max_sessions = 2000
[http]
enabled = false
[[upstream]]
name = "sink"
host = "127.0.0.1"
port = {sink_port}
system_id = "bench"
password = "secret"
window = 1000
[logging]
level = "error"
"""


def build() -> None:
    """Compile the two C programs when they are older than their sources."""
    BIN.mkdir(exist_ok=True)
    for name in ("smpp_load", "smsc_sink"):
        source, target = HERE / f"{name}.c", BIN / name
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["cc", "-O2", "-o", target, source, "-lm"], check=True)


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of processes and their children, living and reaped."""
    ticks, parent, own = os.sysconf("SC_CLK_TCK"), {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            rest = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parent[int(entry.name)] = int(rest[1])
        own[int(entry.name)] = sum(map(int, rest[11:15])) / ticks
    total = 0.0
    for pid, seconds in own.items():
        ancestor = pid
        while ancestor and ancestor not in pids:
            ancestor = parent.get(ancestor, 0)
        total += seconds if ancestor else 0.0
    return total


class Bench:
    """The sink and the proxy, and what to ask of them."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "proxy.toml"
        self.config.write_text(
            CONFIG.format(data_dir=directory, smpp_port=SMPP_PORT, sink_port=SINK_PORT)
        )
        self.directory = directory
        self.sink_out = directory / "sink.json"
        self.sink = subprocess.Popen(
            [BIN / "smsc_sink", "--port", str(SINK_PORT), "--dlr"],
            stdout=self.sink_out.open("w"),
            stderr=subprocess.DEVNULL,
        )
        self.proxy = subprocess.Popen(
            [sys.executable, "-m", "proxy", "run", "--config", self.config],
            stdout=subprocess.PIPE,
            cwd=HERE.parent,
            text=True,
        )
        assert self.proxy.stdout is not None
        if not self.proxy.stdout.readline().startswith("ready"):
            raise SystemExit("the proxy did not start")
        pid_file = directory / "postgres" / "postmaster.pid"
        self.postgres_pid = int(pid_file.read_text().split()[0])

    def command(self, *args: str) -> Any:
        """A smpp-proxy command with --json."""
        done = subprocess.run(
            [sys.executable, "-m", "proxy", *args, "--json", "--config", self.config],
            cwd=HERE.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def add_accounts(self) -> None:
        """`load`, and acct0001 … acct1000 for the case with many accounts."""
        self.command("account", "add", "load", "--password", "secret", "--credits", "1000000000")
        self.add_ruled_account()
        # A thousand passwords would take a minute to hash: these logins share one.
        url = f"postgresql://postgres@/postgres?host={self.directory}/postgres"
        script = f"""
import asyncio, asyncpg
async def main():
    c = await asyncpg.connect({url!r})
    h = await c.fetchval("SELECT password_hash FROM login WHERE system_id = 'load'")
    await c.execute("INSERT INTO account (name)"
                    " SELECT 'acct' || to_char(n, 'FM0000') FROM generate_series(1, 1000) n")
    await c.execute("INSERT INTO login (account_id, system_id, password_hash) SELECT id, name, $1"
                    " FROM account WHERE name LIKE 'acct%'", h)
    await c.execute("WITH a AS (UPDATE account SET balance_micro = 10^12 WHERE name LIKE 'acct%'"
                    " RETURNING id) INSERT INTO ledger (id, account_id, operation, counter,"
                    " amount_micro, balance_micro) SELECT id_from_time(now()), id, 'add',"
                    " 'paid_in', 10^12, 10^12 FROM a")
asyncio.run(main())
"""
        subprocess.run([sys.executable, "-c", script], check=True)

    def add_ruled_account(self) -> None:
        """`ruled`: a tariff of 5,000 prices, costs, limits, and a plan whose credits expire."""
        csv = self.directory / "prices.csv"
        prefixes = ["", "44", *(f"{n:05d}"[: 2 + n % 4] for n in range(100, 100_000, 3))]
        unique = list(dict.fromkeys(prefixes))[:5000]
        csv.write_text("prefix,price\n" + "".join(f"{p},0.0{1 + len(p)}\n" for p in unique))
        for name in ("prices", "costs"):
            self.command("tariff", "import", str(csv), "--name", name)
        self.command("upstream", "cost", "sink", "costs")
        self.command("account", "add", "ruled", "--password", "secret", "--credits", "1000000000")
        self.command(
            "account", "set", "ruled", "tariff=prices", "daily_cap=100000000",
            "monthly_cap=1000000000", "daily_messages=1000000000", "rate=1000000",
            "allowed_prefixes=44,1,2,3,4,5,6,7,8,9", "valid_until=2099-12-31",
            "low_balance=1000,24h", "timezone=Europe/London",
        )  # fmt: skip
        self.command("plan", "add", "monthly", "--credits", "1000000", "--every", "month")
        self.command("plan", "assign", "monthly", "ruled")

    def direct(self) -> float:
        """Messages a second with nothing between load and sink."""
        load = subprocess.run(
            [BIN / "smpp_load", "--port", str(SINK_PORT), "--count", "1000000"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return float(json.loads(load.stdout)["ok_per_s"])

    def sink_counters(self) -> dict[str, Any]:
        """What the carrier has got so far."""
        size = self.sink_out.stat().st_size
        self.sink.send_signal(signal.SIGUSR1)
        for _ in range(2000):
            if self.sink_out.stat().st_size > size:
                return dict(json.loads(self.sink_out.read_text().splitlines()[-1]))
            time.sleep(0.001)
        raise SystemExit("the sink does not answer")

    def run(self, args: list[str]) -> dict[str, Any]:
        """One load; its own figures plus the CPU time of both processes."""
        proxy0, postgres0 = cpu_seconds([self.proxy.pid]), cpu_seconds([self.postgres_pid])
        load = subprocess.run(
            [
                BIN / "smpp_load",
                "--port",
                str(SMPP_PORT),
                "--system-id",
                "load",
                "--password",
                "secret",
                "--bind-timeout",
                "60",
                *args,
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        result = dict(json.loads(load.stdout))
        result["proxy_cpu"] = cpu_seconds([self.proxy.pid]) - proxy0
        result["postgres_cpu"] = cpu_seconds([self.postgres_pid]) - postgres0
        return result

    def close(self) -> None:
        """Stop both."""
        self.proxy.terminate()
        self.proxy.wait(60)
        self.sink.terminate()


def main() -> None:
    """Run the cases in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--only", choices=CASES, action="append")
    options = parser.parse_args()
    build()
    directory = Path(tempfile.mkdtemp(prefix="smpp-b-"))
    bench = Bench(directory)
    try:
        bench.add_accounts()
        print(
            f"{'case':14} {'messages/s':>10} {'p50 ms':>8} {'p99 ms':>8}"
            f" {'proxy ms/1000':>14} {'PostgreSQL ms/1000':>19} {'receipts':>9}"
        )
        direct = statistics.median(bench.direct() for _ in range(options.runs))
        print(f"{'nothing':14} {direct:10.0f}", flush=True)
        around = bench.sink_counters()["submits"]
        names = options.only or list(CASES)
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(options.runs):  # in turn, so that the machine's moods meet all of them
            for name in names:
                args = CASES[name]
                if "--count" not in args:
                    args = [*args, "--count", str(options.count)]
                results[name].append(bench.run(args))
        for name, runs in results.items():

            def median(key: str, runs: list[dict[str, Any]] = runs) -> float:
                return statistics.median(float(run[key]) for run in runs)

            per_1000 = 1e6 / median("ok")
            bad = [r for r in runs if r["ok"] != r["sent"] or r["duplicates"] or r["error"]]
            print(
                f"{name:14} {median('ok_per_s'):10.0f} {median('p50_ms'):8.2f}"
                f" {median('p99_ms'):8.2f} {median('proxy_cpu') * per_1000:14.1f}"
                f" {median('postgres_cpu') * per_1000:19.1f} {median('dlrs'):9.0f}"
                + (f"  NOT CLEAN: {bad}" if bad else ""),
                flush=True,
            )
        sink = bench.sink_counters()["submits"] - around
        findings = bench.command("audit")
        messages = int(
            subprocess.run(
                [sys.executable, "-c", _COUNT.format(directory=directory)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
        )
        print(f"carrier got {sink}, charged {messages}, audit: {findings or 'clean'}")
        if findings or sink != messages:
            raise SystemExit(1)
    finally:
        bench.close()
        shutil.rmtree(directory, ignore_errors=True)


_COUNT = """
import asyncio, asyncpg
async def main():
    c = await asyncpg.connect("postgresql://postgres@/postgres?host={directory}/postgres")
    print(await c.fetchval("SELECT count(*) FROM outcome WHERE state = 'charged'"))
asyncio.run(main())
"""

if __name__ == "__main__":
    main()
