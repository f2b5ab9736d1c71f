"""Ordinary callers that measure how they fare, and processes that attack beside them; for hostile.py."""

import multiprocessing
import os
import socket
import ssl
import statistics
import time

HOST = "127.0.0.1"
# How long a window is, and what an ordinary caller waits between two requests.
WINDOW, PAUSE = 1.0, 0.002
URGENT = os.environ.get("URGENT") == "1"


def urgent(task, priority):
    """Goes before all ordinary work, so that a caller measures the gateway and not its own wait for a core."""
    try:
        os.sched_setscheduler(task, os.SCHED_RR, os.sched_param(priority))
    except PermissionError:
        pass


def unchecked(protocol):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


class Caller:
    """One kept connection that asks one thing after the other."""

    def __init__(self, port, tls=False):
        self.port = port
        self.context = unchecked("http/1.1") if tls else None
        self.open()

    def open(self):
        self.stream = socket.create_connection((HOST, self.port), timeout=10)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context:
            self.stream = self.context.wrap_socket(self.stream)
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


class Ordinary:
    """Two callers, each a process of its own: beside a thread that attacks, one would measure Python's lock."""

    def __init__(self, port, tls, target="/contact", fields=""):
        self.asked = (port, tls, target)
        # What they send from the next window on.
        self.fields = fields
        self.callers = []
        for kind in ("kept", "new"):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=self.serve, args=(kind, theirs), daemon=True)
            process.start()
            self.callers.append((kind, ours))
        self.windows = {}

    def serve(self, kind, pipe):
        # The one that is to be quick must not wait for the other's handshakes in Python.
        urgent(0, 12 if kind == "kept" else 10)
        port, tls, target = self.asked
        caller = Caller(port, tls)
        while True:
            seconds, fields = pipe.recv()
            took, failed, until = [], 0, time.monotonic() + seconds
            while (began := time.monotonic()) < until:
                try:
                    if kind == "new":
                        caller.stream.close()
                        caller.open()
                    failed += caller.ask(target, fields) != 200
                except OSError:
                    failed += 1
                    caller.open()
                took.append((time.monotonic() - began) * 1000)
                time.sleep(PAUSE)
            pipe.send((sorted(took), failed))

    def begin(self, seconds=WINDOW):
        for _, pipe in self.callers:
            pipe.send((seconds, self.fields))

    def end(self, name):
        for kind, pipe in self.callers:
            self.windows.setdefault(name, {}).setdefault(kind, []).append(pipe.recv())

    def window(self, name, seconds=WINDOW):
        self.begin(seconds)
        self.end(name)

    def found(self):
        """By name and kind of caller: requests, how many failed, and the medians over the windows."""
        return {name: {kind: summary(windows) for kind, windows in kinds.items()} for name, kinds in self.windows.items()}


def summary(windows):
    def median(share):
        return round(statistics.median(took[int(len(took) * share)] for took, _ in windows), 2)

    return {
        "requests": sum(len(took) for took, _ in windows),
        "failed": sum(failed for _, failed in windows),
        "p50_ms": median(0.5),
        "p99_ms": median(0.99),
    }


def times_worse(found):
    """For each attack, how many times the baseline's p99 its own is."""
    base = found["baseline"]
    worse = {}
    for name, kinds in found.items():
        if name != "baseline":
            worse[name] = {kind: round(kinds[kind]["p99_ms"] / base[kind]["p99_ms"], 2) for kind in kinds}
    return worse


def bearable(found):
    """Nobody was refused, and nobody's p99 was more than doubled."""
    return all_answered(found) and all(times <= 2 for kinds in times_worse(found).values() for times in kinds.values())


def all_answered(found):
    return all(kind["failed"] == 0 for kinds in found.values() for kind in kinds.values())


def attacker(work, *arguments):
    """Starts a process for an attack; the function that is returned waits for what came of it."""
    heard, said = multiprocessing.Pipe(duplex=False)

    def run():
        if URGENT:
            urgent(0, 1)
        else:
            os.nice(19)
        said.send(work(*arguments))

    process = multiprocessing.Process(target=run, daemon=True)
    process.start()
    said.close()

    def result():
        found = heard.recv()
        process.join()
        return found

    return result
