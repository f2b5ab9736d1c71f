"""Changes a gateway under load and counts what its callers noticed. Called by change.sh.

    change.py reload|upgrade|drain BINARY ISSUER_PORT SERVICE_PORT DIRECTORY
"""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

CLIENT = ("eazybank-callcenter-cc", "demo-only-callcenter-cc")
REALM = "/realms/eazybank"
CALLERS = 8
RELOADS = int(os.environ.get("RELOADS", "100"))
ROUNDS = int(os.environ.get("ROUNDS", "20"))


def configuration(ports, issuer, service, directory, routes=1, broken=False):
    gateway, admin = ports
    text = f"""
server: {{ threads: 2, shutdown: {{ pre_stop: 2s, drain: 10s }}, handover: '{directory}/{gateway}.sock' }}
admin: {{ address: '127.0.0.1:{admin}' }}
listeners: [{{ address: '127.0.0.1:{gateway}' }}]
access_log: {{ enabled: false }}
issuers:
  keycloak:
    issuer: http://127.0.0.1:{issuer}{REALM}
    audience: [eazybank-gateway]
    algorithms: [RS256, PS256, ES256, EdDSA]
revocations: {{ file: '{directory}/{gateway}.revocations' }}
upstreams:
  accounts: {{ peers: ['127.0.0.1:{service}', {{ address: 'localhost:{service}', weight: {1 + routes % 5} }}] }}
routes:
  - {{ name: accounts, match: {{ path: /accounts }}, strip_prefix: /accounts, upstream: accounts, access: {{}} }}
"""
    for number in range(routes, routes + 50):
        text += f"  - {{ name: r{number}, match: {{ path: /r{number} }}, upstream: accounts, access: public }}\n"
    if broken:
        text += "  - { name: accounts, upstream: nowhere }\n"
    return text


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def ask(port, path, timeout=5):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def token(issuer):
    form = {"grant_type": "client_credentials", "scope": "accounts:read"}
    form["client_id"], form["client_secret"] = CLIENT
    connection = http.client.HTTPConnection("127.0.0.1", issuer, timeout=10)
    head = {"Content-Type": "application/x-www-form-urlencoded"}
    path = REALM + "/protocol/openid-connect/token"
    connection.request("POST", path, urllib.parse.urlencode(form), head)
    return json.loads(connection.getresponse().read())["access_token"]


class Gateway:
    """One process with its ports and its file."""

    def __init__(self, binary, issuer, service, directory):
        self.binary, self.directory = binary, directory
        self.ports = (free_port(), free_port())
        self.world = (issuer, service, directory)
        self.file = directory / f"{self.ports[0]}.yaml"
        self.write()

    def write(self, **how):
        new = self.file.with_suffix(".new")
        new.write_text(configuration(self.ports, *self.world, **how))
        new.rename(self.file)

    def start(self, *flags):
        log = open(self.directory / f"{self.ports[0]}.log", "a")
        command = [self.binary, "run", "--config", self.file, *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        return self

    def is_ready(self):
        return ask(self.ports[1], "/readyz")[0] == 200

    def wait_ready(self):
        for _ in range(600):
            if self.is_ready():
                return self
            time.sleep(0.05)
        sys.exit("not ready in 30 s")

    def reloads(self):
        counts = {}
        for line in ask(self.ports[1], "/metrics")[1].splitlines():
            if line.startswith("portcullis_config_reloads_total{"):
                counts[line.split('"')[1]] = int(float(line.split()[-1]))
        return counts

    def resident(self):
        """In KiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)


class Load:
    """Callers that ask as fast as they can; half of them open a connection for each request."""

    def __init__(self, bearer, place):
        self.place, self.stopped = place, threading.Event()
        self.asked, self.failed, self.why = 0, 0, {}
        self.lock = threading.Lock()
        head = f"GET /accounts/api/fetch HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {bearer}\r\n"
        self.threads = [
            threading.Thread(target=self.call, args=(head, number)) for number in range(CALLERS)
        ]
        for thread in self.threads:
            thread.start()

    def call(self, head, number):
        once = number % 2 == 1
        head = (head + ("Connection: close\r\n\r\n" if once else "\r\n")).encode()
        asked, failures, connection = 0, {}, None
        while not self.stopped.is_set():
            try:
                # A balancer's rule: no new request goes to who is not ready.
                port = self.place(number)
                if connection is None or connection[1] != port:
                    if connection:
                        connection[0].close()
                    connection = (socket.create_connection(("127.0.0.1", port), 5), port)
                connection[0].sendall(head)
                answer = read(connection[0])
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise ValueError(answer[:40])
                if once or b"connection: close" in answer.lower():
                    connection[0].close()
                    connection = None
            except (OSError, ValueError) as error:
                text = f"{type(error).__name__}: {error}"
                failures[text] = failures.get(text, 0) + 1
                connection = None
            asked += 1
        with self.lock:
            self.asked += asked
            for text, count in failures.items():
                self.failed += count
                self.why[text] = self.why.get(text, 0) + count

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        return {"requests": self.asked, "failed": self.failed, "why": self.why}


def read(connection):
    """One response: its head, after its body has been read."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("closed without an answer")
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    fields = head.lower().split(b"\r\n")
    length = next(int(field.split(b":")[1]) for field in fields if field.startswith(b"content-length:"))
    while len(body) < length:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("closed within an answer")
        body += more
    return head


def reload(gateway, bearer):
    gateway.start().wait_ready()
    load = Load(bearer, lambda _: gateway.ports[0])
    time.sleep(5)
    before = gateway.resident()
    begun = time.monotonic()
    for number in range(RELOADS):
        gateway.write(routes=1 + number, broken=number % 10 == 9)
        gateway.process.send_signal(signal.SIGHUP)
        time.sleep(max(0, begun + number + 1 - time.monotonic()))
    after = gateway.resident()
    counts = gateway.reloads()
    result = load.stop()
    code = gateway.stop()
    taken = sum(counts.values())
    good = code == 0 and counts["failed"] == 0 and counts["invalid"] >= RELOADS // 10
    good = good and taken >= RELOADS and after < before * 1.25 + 8192
    return good, {"reloads": counts, "rss_kib": [before, after], **result}


def upgrade(gateway, bearer):
    gateway.start().wait_ready()
    load = Load(bearer, lambda _: gateway.ports[0])
    codes = []
    for _ in range(ROUNDS):
        time.sleep(0.5)
        old = gateway.process
        gateway.start("--upgrade")
        codes.append(old.wait(60))
    time.sleep(0.5)
    result = load.stop()
    codes.append(gateway.stop())
    return not any(codes), {"upgrades": ROUNDS, "exit_codes": sorted(set(codes)), **result}


def drain(gateway, other, bearer):
    """Two replicas; each in turn is told to stop, drains, and is started again."""
    replicas = [gateway.start().wait_ready(), other.start().wait_ready()]
    ready = [True, True]

    def watch():
        while not watched.is_set():
            ready[:] = [replica.is_ready() for replica in replicas]
            time.sleep(0.1)

    watched = threading.Event()

    def place(number):
        first = number // 2 % 2
        return replicas[first if ready[first] else 1 - first].ports[0]

    watcher = threading.Thread(target=watch)
    watcher.start()
    load = Load(bearer, place)
    codes = []
    for number in range(ROUNDS):
        time.sleep(0.5)
        codes.append(replicas[number % 2].stop())
        replicas[number % 2].start().wait_ready()
        while not all(ready):
            time.sleep(0.05)
    result = load.stop()
    watched.set()
    watcher.join()
    codes += [replica.stop() for replica in replicas]
    return not any(codes), {"drains": ROUNDS, "exit_codes": sorted(set(codes)), **result}


def main():
    what, binary, issuer, service, directory = sys.argv[1:]
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    world = (binary, int(issuer), int(service), directory)
    bearer = token(int(issuer))
    gateway = Gateway(*world)
    if what == "reload":
        good, result = reload(gateway, bearer)
    elif what == "upgrade":
        good, result = upgrade(gateway, bearer)
    elif what == "drain":
        good, result = drain(gateway, Gateway(*world), bearer)
    else:
        sys.exit(__doc__)
    print(json.dumps({"change": what, **result}))
    sys.exit(0 if good and result["failed"] == 0 and result["requests"] > 0 else 1)


main()
