#!/usr/bin/env python3
"""Kills one of three peers twenty times under load, as `kill -9` does; loadtest/kill.sh runs this.

    kill.py BINARY [ROUNDS]      starts three peers and the gateway on free ports of loopback
    kill.py peer PORT LOG [SECONDS]    one peer; notes in LOG what it has taken

Prints one JSON object; exits 1 when a GET failed, a POST failed that was not on its way while a peer died, a POST was
taken twice, or a peer was not left out within two seconds.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HOST = "127.0.0.1"
READERS, WRITERS = 16, 8
# What an answer takes, so that some are on their way at any moment.
WORK_SECONDS = 0.004
CONFIG = """
server: {{ threads: 2 }}
listeners: [{{ address: '127.0.0.1:{gateway}' }}]
admin: {{ address: '127.0.0.1:{admin}' }}
access_log: {{ enabled: false }}
upstreams:
  pool:
    peers: [{peers}]
    retries: {{ attempts: 3, when: [connect, reset] }}
    outlier: {{ failures: 3, eject: 1s }}
routes:
  - {{ name: pool, match: {{ path: /pool, methods: [GET, POST] }}, upstream: pool, access: public }}
"""


async def peer(port, log, seconds=WORK_SECONDS):
    # Unbuffered: what is written outlives a killed process.
    notes = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line = head.split(b" HTTP/1.1\r\n", 1)[0]
                os.write(notes, line + b"\n")
                await asyncio.sleep(seconds)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, HOST, port, backlog=512)
    async with server:
        await server.serve_forever()


def taken(log):
    """The requests that a peer has taken, in all its lives."""
    if not os.path.exists(log):
        return []
    with open(log, encoding="ascii") as notes:
        return notes.read().splitlines()


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


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind((HOST, 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def scrape(port, series):
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return next(float(l.rsplit(" ", 1)[1]) for l in text.splitlines() if l.startswith(series))


async def until(what, holds, seconds=20):
    began = time.monotonic()
    while True:
        try:
            if await asyncio.to_thread(holds):
                return time.monotonic() - began
        except OSError:
            pass
        if time.monotonic() - began > seconds:
            raise SystemExit(f"not in {seconds} s: {what}")
        await asyncio.sleep(0.01)


def listens(port):
    with socket.create_connection((HOST, port), timeout=1):
        return True


async def run(binary, rounds, folder):
    gateway, admin, *ports = free_ports(5)
    logs = [os.path.join(folder, f"peer-{port}.log") for port in ports]

    def start(index):
        command = [sys.executable, __file__, "peer", str(ports[index]), logs[index]]
        return subprocess.Popen(command)

    peers = [start(index) for index in range(3)]
    config = os.path.join(folder, "kill.yaml")
    with open(config, "w", encoding="ascii") as file:
        listed = ", ".join(f"'{HOST}:{port}'" for port in ports)
        file.write(CONFIG.format(gateway=gateway, admin=admin, peers=listed))
    with open(os.path.join(folder, "gateway.log"), "w", encoding="ascii") as out:
        portcullis = subprocess.Popen([binary, "run", "--config", config], stdout=out, stderr=out)
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
    if sys.argv[1] == "peer":
        asyncio.run(peer(int(sys.argv[2]), sys.argv[3], *map(float, sys.argv[4:])))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
            sys.exit(1 if asyncio.run(run(sys.argv[1], rounds, scratch)) else 0)
