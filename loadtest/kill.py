#!/usr/bin/env python3
"""Kills one of three peers twenty times under load, as `kill -9` does; loadtest/kill.sh runs this.

    kill.py BINARY [ROUNDS]      starts three peers and the gateway on free ports of loopback

Prints one JSON object; exits 1 when a GET failed, a POST failed that was not on its way while a peer died, a POST was
taken twice, or a peer was not left out within two seconds.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
import urllib.request

from peers import HOST, free_ports, listens, start_gateway, start_peer, taken, until

READERS, WRITERS = 16, 8
# What the pool has beside its peers.
POOL = [
    "retries: { attempts: 3, when: [connect, reset] }",
    "outlier: { failures: 3, eject: 1s }",
]


class Load:
    def __init__(self, port):
        self.port, self.over = port, False
        self.answers, self.failed, self.longest = {}, {}, 0.0

    async def caller(self, number):
        method = "GET" if number < READERS else "POST"
        stream, turn = None, 0
        while not self.over:
            turn += 1
            line = f"{method} /pool/{number}/{turn}"
            began = time.monotonic()
            try:
                if stream is None:
                    stream = await asyncio.open_connection(HOST, self.port)
                reader, writer = stream
                writer.write(f"{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                fields = head.split("\r\n")
                length = next(int(f[15:]) for f in fields if f.startswith("content-length:"))
                await reader.readexactly(length)
                status = int(head.split()[1])
                if "connection: close" in fields:
                    writer.close()
                    stream = None
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                status, stream = type(error).__name__, None
            ended = time.monotonic()
            self.longest = max(self.longest, ended - began)
            key = f"{method} {status}"
            self.answers[key] = self.answers.get(key, 0) + 1
            if status != 200:
                self.failed[line] = (began, ended)
                await asyncio.sleep(0.001)


def scrape(port, series):
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return next(float(l.rsplit(" ", 1)[1]) for l in text.splitlines() if l.startswith(series))


async def run(binary, rounds, folder):
    gateway, admin, *ports = free_ports(5)
    logs = [os.path.join(folder, f"peer-{port}.log") for port in ports]

    def start(index):
        return start_peer(ports[index], logs[index])

    peers = [start(index) for index in range(3)]
    listed = [f"'{HOST}:{port}'" for port in ports]
    portcullis = start_gateway(binary, folder, gateway, admin, listed, POOL, threads=2)
    try:
        for port in [*ports, gateway]:
            await until("everybody listens", lambda port=port: listens(port))

        def state(name):
            return scrape(admin, f'portcullis_upstream_peers{{state="{name}",upstream="pool"}}')

        load = Load(gateway)
        callers = [asyncio.create_task(load.caller(n)) for n in range(READERS + WRITERS)]
        ejected, deaths = [], []
        for number in range(rounds):
            await asyncio.sleep(1)
            victim = number % 3
            killed = time.monotonic()
            os.kill(peers[victim].pid, signal.SIGKILL)
            # Its sockets are closed when it is gone, and not before.
            await asyncio.to_thread(peers[victim].wait)
            deaths.append((killed, time.monotonic()))
            ejected.append(await until("it is left out", lambda: state("ejected") == 1))
            peers[victim] = start(victim)
            await until("it listens again", lambda: listens(ports[victim]))
            await until("it is taken back", lambda: state("healthy") == 3, seconds=60)
        await asyncio.sleep(1)
        load.over = True
        await asyncio.gather(*callers)

        posts = [line for log in logs for line in taken(log) if line.startswith("POST")]

        def in_flight(began, ended):
            return any(began <= gone and ended >= killed for killed, gone in deaths)

        stray = [line for line, times in load.failed.items() if not in_flight(*times)]
        gets = sum(1 for line in load.failed if line.startswith("GET"))
        # And now all of them.
        for one in peers:
            os.kill(one.pid, signal.SIGKILL)
            one.wait()
        last = Load(gateway)
        callers = [asyncio.create_task(last.caller(n)) for n in range(READERS + WRITERS)]
        await asyncio.sleep(2)
        last.over = True
        await asyncio.gather(*callers)
        result = {
            "kills": rounds,
            "answers": dict(sorted(load.answers.items())),
            "failed_gets": gets,
            "failed_posts": len(load.failed) - gets,
            "failed_posts_not_in_flight_then": len(stray),
            "posts_sent_twice": len(posts) - len(set(posts)),
            "ejected_after_ms": {
                "median": round(sorted(ejected)[len(ejected) // 2] * 1000),
                "longest": round(max(ejected) * 1000),
            },
            "longest_answer_ms": round(load.longest * 1000),
            "all_dead": {
                "answers": dict(sorted(last.answers.items())),
                "longest_answer_ms": round(last.longest * 1000),
            },
        }
        print(json.dumps(result))
        wrong = [key for key in last.answers if key.split()[1] not in ("502", "503")]
        return gets or stray or len(posts) != len(set(posts)) or max(ejected) > 2 or wrong or last.longest > 1
    finally:
        for one in [*peers, portcullis]:
            one.kill()
            one.wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
        sys.exit(1 if asyncio.run(run(sys.argv[1], rounds, scratch)) else 0)
