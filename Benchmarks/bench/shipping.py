"""The log server: how fast history gets there and back, and what that costs the live mount."""
import asyncio
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time

from .loads import QD16, run_fio
from .middle import median
from .subjects import Logdisk

CURL_RATIO_MIN = 0.6
SHIP_MB_MIN = 400
SEALED_RATIO_MIN = 0.8
WRITERS = 50
WRITERS_RATIO_MIN = 0.8
SERVER_MIB_MAX = 256
LINK_MBIT = 1000
LINK_RATIO_MIN = 0.9
ROUND_TRIP_SECONDS = 0.05
FIRST_READ_SECONDS_MAX = 1
WRITE_RATIO_MIN = 0.95


def shipping(work, template, program, options):
    """The section: numbers by name, each with its verdict."""
    place = work / "shipping"
    place.mkdir()
    volume = place / "volume"
    run(program, "create", volume, "--from", template)
    try:
        return {
            "speed": speed(place, volume, program, options),
            "writers": writers(place, template, program),
            "link": link(place, volume, program, options),
            "first_read": first_read(place, volume, program, options),
            "write": write_path(place, template, program, options),
        }
    finally:
        shutil.rmtree(place, ignore_errors=True)


def run(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"logdisk {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


class Server:
    """`logdisk serve` on a new store, removed when it ends."""

    def __init__(self, place, program, address="127.0.0.1", before=()):
        self.place, self.program, self.before = place, program, before
        self.store = place / "store"
        self.key, self.certificate = place / "server.key", place / "server.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=bench",
             "-addext", f"subjectAltName=IP:{address}", "-keyout", self.key,
             "-out", self.certificate], check=True, capture_output=True)
        self.log = open(place / "server.log", "w+")
        self.process = subprocess.Popen(
            [*before, program, "serve", self.store, "--listen", f"{address}:0", "--tls-cert",
             self.certificate, "--tls-key", self.key], stdout=self.log, stderr=self.log)
        self.url = self.wait_for_url()
        words = run(program, "access", "create", self.store, "--name", "bench").split()
        self.token = place / "token"
        self.token.touch(0o600)
        self.token.write_text(words[-1] + "\n")

    def wait_for_url(self):
        for _ in range(1000):
            found = re.search(r"https://\S+:\d+", (self.place / "server.log").read_text())
            if found:
                return found.group(0)
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError("the log server did not start")

    @property
    def port(self):
        return int(self.url.rsplit(":", 1)[1])

    def access(self):
        return ["--token-file", self.token, "--ca", self.certificate]

    def add(self, volume, name, *options):
        run(self.program, "remote", "add", volume, name, f"{self.url}/{name}", *self.access(),
            "--when", "always", *options)

    def ship(self, volume, name):
        begin = time.monotonic()
        run(self.program, "ship", volume, name, "--now", "--wait")
        return time.monotonic() - begin

    @property
    def peak_mib(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", text).group(1)) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()
        shutil.rmtree(self.store, ignore_errors=True)


def stored_bytes(volume):
    return sum(file.stat().st_size for file in (volume / "segments").iterdir())


def speed(place, volume, program, options):
    """Shipping beside `curl -T` of the same bytes to the same server; plain and sealed."""
    snapshot = max((volume / "segments").iterdir(), key=lambda file: file.stat().st_size)
    total = stored_bytes(volume)
    key = place / "seal.key"
    run(program, "key", "create", key)
    rates = {"curl": [], "plain": [], "sealed": []}
    for number in range(max(options.rounds, 1)):
        server = Server(place, program)
        try:
            os.sync()
            rates["curl"].append(snapshot.stat().st_size / upload(server, snapshot))
            for name, extra in (("plain", ()), ("sealed", ("--key-file", key))):
                remote = f"{name}{number}"
                server.add(volume, remote, *extra)
                os.sync()
                rates[name].append(total / server.ship(volume, remote))
                run(program, "remote", "remove", volume, remote)
        finally:
            server.stop()
    middle = {name: median(values) / 1e6 for name, values in rates.items()}
    return {**rates, "mb_per_second": middle["plain"],
            "ratio": middle["plain"] / middle["curl"],
            "sealed_ratio": middle["sealed"] / middle["plain"],
            "ok": middle["plain"] >= CURL_RATIO_MIN * middle["curl"],
            "fast": middle["plain"] >= SHIP_MB_MIN,
            "sealed_ok": middle["sealed"] >= SEALED_RATIO_MIN * middle["plain"]}


def upload(server, file):
    """Seconds that curl takes to send a file as an upload."""
    header = f"Authorization: Bearer {server.token.read_text().strip()}"
    base = ["curl", "--silent", "--show-error", "--fail", "--cacert", server.certificate,
            "-H", header, "-H", "Logdisk-Writer: bench"]
    request = {"uuid": "00000000-0000-4000-8000-000000000001", "size_bytes": 1 << 30,
               "writer": "bench", "host": "bench", "sealed": False}
    url = f"{server.url}/v1/volumes/curl"
    subprocess.run([*base, "-X", "PUT", "-d", json.dumps(request), url], check=True,
                   capture_output=True)
    begin = time.monotonic()
    subprocess.run([*base, "-X", "PATCH", "-H", "Upload-Offset: 0", "-H", "Expect:",
                    "-T", file, f"{url}/uploads/bench"], check=True, capture_output=True)
    return time.monotonic() - begin


def writers(place, template, program):
    """Fifty volumes that ship at once, beside one that ships as much."""
    piece = place / "piece"
    with open(template, "rb") as source, open(piece, "wb") as target:
        target.write(source.read(64 << 20))
    volumes = [place / f"writer{number}" for number in range(WRITERS)]
    for volume in volumes:
        run(program, "create", volume, "--from", piece, "--wal-size", "32M")
    server = Server(place, program)
    try:
        for volume in volumes:
            server.add(volume, volume.name)
        os.sync()
        total = sum(stored_bytes(volume) for volume in volumes)
        begin = time.monotonic()
        for volume in volumes:  # one after the other: one writer at a time
            run(program, "ship", volume, "--now", "--wait")
        alone = total / (time.monotonic() - begin)
        for number, volume in enumerate(volumes):
            run(program, "remote", "remove", volume, volume.name)
            server.add(volume, f"again{number}")
        os.sync()
        begin = time.monotonic()
        processes = [subprocess.Popen([program, "ship", volume, "--now", "--wait"],
                                      stdout=subprocess.DEVNULL) for volume in volumes]
        codes = [process.wait() for process in processes]
        together = total / (time.monotonic() - begin)
        if any(codes):
            raise RuntimeError(f"logdisk ship ended with {codes}")
        peak = server.peak_mib
    finally:
        server.stop()
        for volume in volumes:
            shutil.rmtree(volume)
    ratio = together / alone
    return {"alone": alone, "together": together, "ratio": ratio, "peak_mib": peak,
            "ok": ratio >= WRITERS_RATIO_MIN, "memory_ok": peak <= SERVER_MIB_MAX}


class Link:
    """Two hosts in network namespaces and a cable of a bounded rate between them."""

    def __init__(self):
        self.names = [f"bench-{os.getpid()}-{side}" for side in "ab"]
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", "eth0", "netns", self.names[0], "type", "veth", "peer", "name", "eth0",
           "netns", self.names[1])
        for number, name in enumerate(self.names):
            ip("-n", name, "address", "add", f"10.74.0.{number + 1}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
            subprocess.run(["tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", "tbf",
                            "rate", f"{LINK_MBIT}mbit", "burst", "256kb", "latency", "50ms"],
                           check=True)

    def on(self, side):
        return ["nsenter", f"--net=/run/netns/{self.names[side]}"]

    def stop(self):
        for name in self.names:
            ip("netns", "delete", name)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def link(place, volume, program, options):
    """`logdisk replay URL` over a link of 1 Gbit/s: bytes of the segments to what it carries."""
    cable = Link()
    try:
        server = Server(place, program, "10.74.0.2", cable.on(1))
        try:
            access = server.access()
            subprocess.run([*cable.on(0), program, "remote", "add", volume, "link",
                            f"{server.url}/link", *access, "--when", "always"],
                           check=True, capture_output=True)
            subprocess.run([*cable.on(0), program, "ship", volume, "link", "--now", "--wait"],
                           check=True, capture_output=True)
            rates = []
            output = place / "replayed"
            for _ in range(max(options.rounds, 1)):
                output.unlink(missing_ok=True)
                os.sync()
                begin = time.monotonic()
                subprocess.run([*cable.on(0), program, "replay", f"{server.url}/link", "--at",
                                "now", "--output", output, *access],
                               check=True, capture_output=True)
                rates.append(stored_bytes(volume) * 8 / (time.monotonic() - begin))
            same = subprocess.run(["cmp", output, volume / "image.raw"]).returncode == 0
            if not same:
                raise RuntimeError("replay from the server gives other bytes than the volume")
            output.unlink()
        finally:
            server.stop()
            run(program, "remote", "remove", volume, "link")
    finally:
        cable.stop()
    ratio = median(rates) / (LINK_MBIT * 1e6)
    return {"rates": rates, "ratio": ratio, "ok": ratio >= LINK_RATIO_MIN}


class Delay:
    """A TCP proxy that delivers every byte half a round trip later, at any rate."""

    def __init__(self, port):
        self.target = port
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self.main, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait()

    def main(self, ready):
        async def serve():
            server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
        self.loop.create_task(serve())
        self.loop.run_forever()
        open_ones = asyncio.all_tasks(self.loop)
        for task in open_ones:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*open_ones, return_exceptions=True))

    async def connect(self, reader, writer):
        await asyncio.sleep(ROUND_TRIP_SECONDS)  # of the TCP handshake
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        for stream in (writer, back):
            stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(self.carry(reader, back), self.carry(there, writer),
                             return_exceptions=True)

    async def carry(self, source, target):
        while data := await source.read(1 << 18):
            self.loop.call_later(ROUND_TRIP_SECONDS / 2, target.write, data)
        self.loop.call_later(ROUND_TRIP_SECONDS / 2, target.close)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


def first_read(place, volume, program, options):
    """Seconds until the first bytes of `mount --at URL` are there, 50 ms away."""
    server = Server(place, program)
    proxy = Delay(server.port)
    mount = place / "far"
    mount.mkdir(exist_ok=True)
    seconds = []
    try:
        server.add(volume, "far")
        server.ship(volume, "far")
        for _ in range(max(options.rounds, 1)):
            begin = time.monotonic()
            run(program, "mount", f"https://127.0.0.1:{proxy.port}/far", mount, "--at", "now",
                *server.access())
            try:
                with open(mount / "disk.img", "rb") as file:
                    file.read(4096)
                seconds.append(time.monotonic() - begin)
            finally:
                run(program, "unmount", mount)
    finally:
        proxy.stop()
        run(program, "remote", "remove", volume, "far")
        server.stop()
    return {"seconds": seconds, "ok": median(seconds) < FIRST_READ_SECONDS_MAX}


def write_path(place, template, program, options):
    """Random writes to a mount that ships, beside one that does not."""
    server = Server(place, program)
    subjects = {name: Logdisk(place / name, template, program) for name in ("none", "remote")}
    rates = {name: [] for name in subjects}
    try:
        for subject in subjects.values():
            subject.start()
        server.add(subjects["remote"].volume, "live")
        run(program, "ship", subjects["remote"].volume, "--now", "--wait")
        for number in range(max(options.rounds, 1) + 1):
            order = list(subjects.items())
            for name, subject in order if number % 2 else reversed(order):
                for other in subjects.values():
                    other.settle()
                run(program, "ship", subjects["remote"].volume, "--now", "--wait")
                job = run_fio(subject.file, (*QD16, "--rw=randwrite"), f"{options.size}m",
                              number + 1, ("--time_based", f"--runtime={options.seconds}"))
                if number:  # the first one warms up
                    rates[name].append(job["write"]["iops"])
    finally:
        for subject in subjects.values():
            subject.stop()
        server.stop()
    ratio = median(rates["remote"]) / median(rates["none"])
    return {**rates, "ratio": ratio, "ok": ratio >= WRITE_RATIO_MIN}
