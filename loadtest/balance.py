#!/usr/bin/env python3
"""How each way of balancing shares requests out, and what one slow peer costs; loadtest/balance.sh runs this.

    balance.py BINARY [SECONDS]      starts peers and a gateway for each run, on free ports of loopback

Requests come at a fixed rate whether or not earlier ones are answered, so a slow peer cannot slow its callers down and
hide. Prints one line of JSON for each run; exits 1 when a request failed.
"""

import asyncio
import json
import os
import sys
import tempfile
import time

from peers import HOST, free_ports, listens, start_gateway, start_peer, taken, until

RATE = 300
FAST, SLOW = 0.002, 0.2
EVEN = [(FAST, 1)] * 4
# Ways to balance, and peers as (seconds for an answer, weight).
RUNS = [
    ("round_robin", EVEN),
    ("least_request", EVEN),
    ("random", EVEN),
    ("hash, hash_on: path", EVEN),
    ("round_robin", [(FAST, 1), (FAST, 2), (FAST, 5)]),
    ("round_robin", [*EVEN[1:], (SLOW, 1)]),
    ("least_request", [*EVEN[1:], (SLOW, 1)]),
]


async def ask(port, idle, number, found):
    began = time.monotonic()
    reader, writer = idle.pop() if idle else await asyncio.open_connection(HOST, port)
    writer.write(f"GET /pool/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(int(f[15:]) for f in head.split("\r\n") if f.startswith("content-length:"))
    await reader.readexactly(length)
    idle.append((reader, writer))
    found.append((time.monotonic() - began, int(head.split()[1])))


async def run(binary, seconds, balance, peers, folder):
    gateway, admin, *ports = free_ports(2 + len(peers))
    logs = [os.path.join(folder, f"{port}.log") for port in ports]
    running = [start_peer(port, log, work) for port, log, (work, _) in zip(ports, logs, peers)]
    listed = [f"{{ address: '{HOST}:{port}', weight: {w} }}" for port, (_, w) in zip(ports, peers)]
    pool = f"balance: {balance}".split(", ")
    running.append(start_gateway(binary, folder, gateway, admin, listed, pool))
    try:
        for port in [*ports, gateway]:
            await until("everybody listens", lambda port=port: listens(port))
        idle, found, asked = [], [], []
        began = time.monotonic()
        for number in range(int(RATE * seconds)):
            await asyncio.sleep(max(0, began + number / RATE - time.monotonic()))
            asked.append(asyncio.create_task(ask(gateway, idle, number, found)))
        await asyncio.gather(*asked)
        shares = [len(taken(log)) for log in logs]
        latencies = sorted(took * 1000 for took, _ in found)
        part = lambda share: round(latencies[int(len(latencies) * share)], 1)
        failed = sum(1 for _, status in found if status != 200)
        result = {
            "balance": balance,
            "peers": [f"{work * 1000:.0f} ms, weight {weight}" for work, weight in peers],
            "shares": shares,
            "ms": {"p50": part(0.5), "p90": part(0.9), "p99": part(0.99), "longest": round(latencies[-1], 1)},
            "failed": failed,
        }
        print(json.dumps(result), flush=True)
        return failed
    finally:
        for one in running:
            one.kill()
            one.wait()


if __name__ == "__main__":
    each = float(sys.argv[2]) if len(sys.argv) > 2 else 10
    bad = 0
    for way, members in RUNS:
        with tempfile.TemporaryDirectory() as scratch:
            bad += asyncio.run(run(sys.argv[1], each, way, members, scratch))
    sys.exit(1 if bad else 0)
