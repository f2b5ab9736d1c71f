#!/usr/bin/env python3
"""Hostile load on a gateway that listens on loopback; loadtest/hostile.sh starts one and runs this.

    hostile.py PART --port P --tls P --admin P --issuer URL --gateway-pid PID --demo-pid PID

    many     100,000 distinct paths, clients and kids; the metric series
    slow     10,000 connections that send a head byte by byte
    crowd    TLS greetings that were copied, fifty at a time
    http2    rapid resets, CONTINUATION without end, and header bombs over TLS, connection after connection
    ledger   the same against a gateway with limits.floods_per_source
    tokens   distinct tokens, good and forged, at a fixed rate

Beside all but the first there are two ordinary callers: one keeps its connection, the other opens one for each request.
Windows with and without the attack follow each other; p50 and p99 are the medians of all windows of a kind. Prints one
JSON object; exits 1 when what docs/security.md promises did not hold.
"""

import argparse
import base64
import http.client
import json
import math
import os
import select
import selectors
import socket
import ssl
import struct
import sys
import time
import urllib.parse
import urllib.request

from callers import HOST, URGENT, WINDOW, Caller, Ordinary
from callers import all_answered, attacker, bearable, times_worse, unchecked, urgent

# What a connection may cost while its head comes, its task included: docs/operations.md.
KIB_EACH = 24
# Windows of each kind.
ROUNDS = 5
PROVED = "portcullis_token_verifications_total"
DRIP = b"GET /contact HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"a" * 4000


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def busy_seconds(pid):
    """Processor time of all its threads so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scrape(admin_port):
    """Every metric series with its value."""
    with urllib.request.urlopen(f"http://{HOST}:{admin_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))


def series(admin_port):
    return len(scrape(admin_port))


def proved(admin_port):
    """Signatures that were looked at, whatever came of it."""
    local = [value for name, value in scrape(admin_port).items() if name.startswith(PROVED) and "local" in name]
    return sum(int(value) for value in local)


def part(gateway_pid, demo_pid):
    """The first core is the gateway's alone; all others are for everybody else."""
    cores = sorted(os.sched_getaffinity(0))
    ours = cores[:1], cores[1:] or cores
    for pid, allowed, priority in ((gateway_pid, ours[0], 2 if URGENT else 0), (demo_pid, ours[1], 11)):
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), allowed)
            if priority:
                urgent(int(task), priority)
    os.sched_setaffinity(0, ours[1])


def slow(options, count=10_000):
    ordinary = Ordinary(options.port, tls=False)
    ordinary.window("warm")
    ordinary.windows.clear()
    before = resident_kib(options.gateway_pid)
    for _ in range(3):
        ordinary.window("baseline")
    wave = attacker(drip, options.port, options.gateway_pid, count)
    # Ten seconds and what it takes to open them all.
    for _ in range(11):
        ordinary.window("slow")
    attack = wave()
    for _ in range(3):
        ordinary.window("baseline")
    found = ordinary.found()
    grown = attack["resident_kib"] - before
    return {
        "attack": attack,
        "resident_kib": {"before": before, "peak": attack["resident_kib"]},
        "ordinary": found,
        "p99_times": times_worse(found),
    }, bearable(found) and attack["never_ended"] == 0 and grown < KIB_EACH * count


def drip(port, pid, count):
    """Opens them all, each a byte in about two seconds, until the gateway has ended them."""
    selector = selectors.DefaultSelector()
    began = time.monotonic()
    sockets = {}
    ended, peak, most = [], 0, 0
    for number in range(count):
        # A source of its own for every 500: one source alone may have 1000.
        stream = socket.socket()
        stream.bind((f"127.0.1.{1 + number // 500}", 0))
        stream.connect((HOST, port))
        stream.setblocking(False)
        selector.register(stream, selectors.EVENT_READ)
        sockets[stream] = (time.monotonic(), 0)
    at = 0
    while sockets and time.monotonic() - began < 30:
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
        peak = max(peak, resident_kib(pid))
        most = max(most, len(sockets))
    return {
        "connections": count,
        "open_at_once": most,
        "never_ended": len(sockets),
        "longest_s": round(max(ended), 1),
        "resident_kib": peak,
    }


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def nobodys(number):
    """Looks like a token; its client, its key and its signature are nobody's."""
    claims = {"iss": f"http://issuer-{number}", "azp": f"client-{number}", "sub": f"s-{number}"}
    return f"{encoded({'alg': 'RS256', 'kid': f'kid-{number}'})}.{encoded(claims)}.{'A' * 342}"


def many(options, count=100_000):
    caller = Caller(options.port)
    for target in ("/contact", "/nowhere", "/guarded/x"):
        caller.ask(target)
    caller.ask("/guarded/x", f"Authorization: Bearer {nobodys(0)}\r\n")
    before, resident = series(options.admin), resident_kib(options.gateway_pid)
    began = time.monotonic()
    statuses = {}
    for number in range(count):
        if number % 2:
            status = caller.ask(f"/nowhere/{number}?q={number}", f"User-Agent: a-{number}\r\n")
        else:
            field = f"Authorization: Bearer {nobodys(number)}\r\nX-Request-Id: r-{number}\r\n"
            status = caller.ask(f"/guarded/{number}", field)
        statuses[status] = statuses.get(status, 0) + 1
    after = series(options.admin)
    return {
        "requests": count,
        "seconds": round(time.monotonic() - began, 1),
        "statuses": statuses,
        "series": {"before": before, "after": after},
        "resident_kib": {"before": resident, "after": resident_kib(options.gateway_pid)},
    }, after == before


# RFC 9113 section 4.1 and RFC 7541 appendix A: `:method GET`, `:scheme https`, `:path /contact`, `:authority a`.
HEAD = b"\x82\x87\x04\x08/contact\x01\x01a"
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


def patient_resets():
    """The same, but each is taken back when the next one is sent, so that it has been begun."""
    cancel = struct.pack(">I", 8)
    yield frame(HEADERS, END_HEADERS | END_STREAM, 1, HEAD)
    for number in range(3, 200_001, 2):
        yield frame(RST_STREAM, 0, number - 2, cancel) + frame(HEADERS, END_HEADERS | END_STREAM, number, HEAD)


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


ATTACKS = {attack.__name__: attack for attack in (rapid_resets, patient_resets, endless_head, bombs)}


def assail(port, name, source, seconds):
    """Connection after connection; how many were ended by the gateway, and what was written in all."""
    context = unchecked("h2")
    until = time.monotonic() + seconds
    found = {"ended": 0, "turned_away": 0, "stalled": 0, "written": 0}
    while time.monotonic() < until:
        plain = socket.socket()
        plain.settimeout(10)
        # Not the ordinary callers' address.
        plain.bind((source, 0))
        begun = False
        try:
            plain.connect((HOST, port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(plain) as stream:
                begun = True
                stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
                for piece in ATTACKS[name]():
                    stream.sendall(piece)
                    found["written"] += len(piece)
                    if time.monotonic() > until:
                        break
                    # It says goodbye, and takes what comes behind that for a moment.
                    if select.select([stream], [], [], 0)[0] and not stream.recv(65536):
                        raise ConnectionError
        except TimeoutError:
            found["stalled"] += 1
        except OSError:
            found["ended" if begun else "turned_away"] += 1
        finally:
            plain.close()
    return found


def http2(options, attackers=2):
    ordinary = Ordinary(options.tls, tls=True)
    ordinary.window("warm")
    ordinary.windows.clear()
    series_before, before, peak = series(options.admin), resident_kib(options.gateway_pid), 0
    attacks = {name: {"ended": 0, "turned_away": 0, "stalled": 0, "written": 0, "busy": 0} for name in ATTACKS}
    for _ in range(ROUNDS):
        ordinary.window("baseline")
        for name, total in attacks.items():
            busy, began = busy_seconds(options.gateway_pid), time.monotonic()
            waits = [attacker(assail, options.tls, name, f"127.0.2.{n + 1}", WINDOW) for n in range(attackers)]
            ordinary.window(name)
            for found in (wait() for wait in waits):
                for what, much in found.items():
                    total[what] += much
            total["busy"] += busy_seconds(options.gateway_pid) - busy
            total["took"] = total.get("took", 0) + time.monotonic() - began
            peak = max(peak, resident_kib(options.gateway_pid))
    for total in attacks.values():
        total["mib_written"] = round(total.pop("written") / 2**20, 1)
        total["core"] = round(total.pop("busy") / total.pop("took"), 2)
    after = series(options.admin)
    found = ordinary.found()
    held = bearable(found) and all(total["ended"] > 0 for total in attacks.values())
    return {
        "attacks": attacks,
        "series": {"before": series_before, "after": after},
        "resident_kib": {"before": before, "peak": peak, "after": resident_kib(options.gateway_pid)},
        "ordinary": found,
        "p99_times": times_worse(found),
    }, held and after == series_before


def greeting():
    """The first flight of a client: whoever has seen one can send it again and again."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = unchecked("h2").wrap_bio(incoming, outgoing)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def greet(port, seconds, at_once):
    said, greeted, until = greeting(), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        streams = []
        for _ in range(at_once):
            stream = socket.socket()
            stream.bind(("127.0.3.1", 0))
            stream.connect((HOST, port))
            stream.sendall(said)
            streams.append(stream)
        for stream in streams:
            stream.recv(1)
            stream.close()
        greeted += at_once
    return greeted


def crowd(options, at_once=50):
    ordinary = Ordinary(options.tls, tls=True)
    ordinary.window("warm")
    ordinary.windows.clear()
    greeted = 0
    for _ in range(ROUNDS):
        ordinary.window("baseline")
        wait = attacker(greet, options.tls, WINDOW, at_once)
        ordinary.window("crowd")
        greeted += wait()
    found = ordinary.found()
    return {
        "at_once": at_once,
        "greeted_per_second": round(greeted / ROUNDS / WINDOW),
        "ordinary": found,
        "p99_times": times_worse(found),
    }, all_answered(found)


def mint(issuer, count):
    """Each with a name of its own; of the client whose tokens are signed with Ed25519, which is done soonest."""
    form = {"grant_type": "client_credentials", "client_id": "eazybank-eddsa-cc", "client_secret": "demo-only-eddsa-cc"}
    address = urllib.parse.urlsplit(f"{issuer}/protocol/openid-connect/token")
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    minted = []
    for _ in range(count):
        fields = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", address.path, urllib.parse.urlencode(form), fields)
        minted.append(json.load(connection.getresponse())["access_token"])
    return minted


def forged(good, number):
    """With a name of its own, and another token's signature."""
    head, claims, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    return f"{head}.{encoded(claims | {'jti': f'forged-{number}'})}.{signature}"


def bearer(token):
    return f"Authorization: Bearer {token}\r\n"


def present(port, tokens, rate):
    """Each when its time has come; statuses, and how late the last one was."""
    caller, statuses = Caller(port), {}
    began = time.monotonic()
    for asked, token in enumerate(tokens):
        wait = began + asked / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        status = caller.ask("/guarded", bearer(token))
        statuses[status] = statuses.get(status, 0) + 1
    return {"statuses": statuses, "late_s": round(max(-wait, 0), 3)}


def tokens(options, rate=1500):
    """As many good ones as forged ones, each presented once."""
    ordinary = Ordinary(options.port, tls=False, target="/guarded")
    # All of them, in windows of ten seconds at most.
    rounds = max(ROUNDS, math.ceil(options.tokens / rate / 10))
    share = math.ceil(options.tokens / rounds)

    def fresh(number):
        """A window's tokens, and the ordinary callers' one: made when they are needed, because they expire."""
        usual, *good = mint(options.issuer, 1 + share)
        ordinary.fields = bearer(usual)
        return good, [forged(good[0], number * share + one) for one in range(share)]

    for warm in fresh(rounds):
        present(options.port, warm, rate)
    ordinary.window("warm")
    ordinary.windows.clear()
    series_before, before = series(options.admin), resident_kib(options.gateway_pid)
    statuses, late, busy, took = {}, 0, 0, 0
    proved_before = proved(options.admin)
    for number in range(rounds):
        kinds = fresh(number)
        ordinary.window("baseline")
        used, began = busy_seconds(options.gateway_pid), time.monotonic()
        waits = [attacker(present, options.port, kind, rate) for kind in kinds]
        ordinary.window("tokens", share / rate)
        for found in (wait() for wait in waits):
            late = max(late, found["late_s"])
            for status, much in found["statuses"].items():
                statuses[status] = statuses.get(status, 0) + much
        busy += busy_seconds(options.gateway_pid) - used
        took += time.monotonic() - began
    after, resident = series(options.admin), resident_kib(options.gateway_pid)
    found = ordinary.found()
    return {
        "distinct": sum(statuses.values()),
        "proved": proved(options.admin) - proved_before,
        "offered_per_second": 2 * rate,
        "most_late_s": late,
        "core": round(busy / took, 2),
        "statuses": statuses,
        "series": {"before": series_before, "after": after},
        "resident_kib": {"before": before, "after": resident},
        "ordinary": found,
        "p99_times": times_worse(found),
    }, bearable(found) and after == series_before and set(statuses) == {200, 401}


PARTS = {"many": many, "slow": slow, "crowd": crowd, "http2": http2, "ledger": http2, "tokens": tokens}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    for number in ("--port", "--tls", "--admin", "--gateway-pid", "--demo-pid"):
        parser.add_argument(number, type=int, required=True)
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--tokens", type=int, default=7500, help="how many good ones, and as many forged ones")
    options = parser.parse_args()
    part(options.gateway_pid, options.demo_pid)
    began = time.monotonic()
    result, held = PARTS[options.part](options)
    result["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    result["cores"] = os.cpu_count()
    result["load"] = os.getloadavg()[0]
    result["took_s"] = round(time.monotonic() - began, 1)
    print(json.dumps({options.part: result}))
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
