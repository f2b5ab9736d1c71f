#!/usr/bin/env python3
"""Peers that note what they have taken, and a gateway before them; kill.py and balance.py stand on this.

    peers.py PORT LOG [SECONDS]      one peer, which takes so long for an answer
"""

import asyncio
import os
import socket
import subprocess
import sys
import time

HOST = "127.0.0.1"
# What an answer takes, so that some are on their way at any moment.
WORK_SECONDS = 0.004
CONFIG = """
server: {{ threads: {threads} }}
listeners: [{{ address: '127.0.0.1:{gateway}' }}]
admin: {{ address: '127.0.0.1:{admin}' }}
access_log: {{ enabled: false }}
upstreams:
  pool:
    peers: [{peers}]
{pool}
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


def start_peer(port, log, seconds=WORK_SECONDS):
    return subprocess.Popen([sys.executable, __file__, str(port), log, str(seconds)])


def start_gateway(binary, folder, gateway, admin, peers, pool, threads=1):
    """`peers` as the configuration lists them, and further keys of their pool."""
    config = os.path.join(folder, "gateway.yaml")
    pool = "\n".join(f"    {key}" for key in pool)
    with open(config, "w", encoding="ascii") as file:
        listed = ", ".join(peers)
        file.write(CONFIG.format(threads=threads, gateway=gateway, admin=admin, peers=listed, pool=pool))
    with open(os.path.join(folder, "gateway.log"), "w", encoding="ascii") as out:
        return subprocess.Popen([binary, "run", "--config", config], stdout=out, stderr=out)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind((HOST, 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


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


if __name__ == "__main__":
    asyncio.run(peer(int(sys.argv[1]), sys.argv[2], *map(float, sys.argv[3:])))
