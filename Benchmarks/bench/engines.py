"""Real object stores for the section `objects`: SeaweedFS, and Ceph where it is installed.

Each lies in a folder of its own below the one given, listens at 127.0.0.1 and ends with `stop`. The
tests have their own of these (Tests/ObjectEngines), in Swift, with more to kill.
"""
import os
import random
import shutil
import socket
import subprocess
import time
import uuid

from .tools import PACKAGES

ACCESS, SECRET = "LOGDISKBENCH", "bench/secret+0123456789"
PATIENCE_SECONDS = 120


def free_ports(count):
    """Ports that nobody has now, below those that the system gives to connections."""
    found = []
    while len(found) < count:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Engine:
    """What both have: a folder, processes, keys and a port."""

    name = ""

    def __init__(self, place):
        self.place = place
        place.mkdir()
        self.processes = []
        self.keys = place / "keys"
        self.keys.touch(0o600)
        self.keys.write_text(f"[default]\naws_access_key_id = {ACCESS}\n"
                             f"aws_secret_access_key = {SECRET}\n")
        try:
            self.start()
            self.make_bucket()
        except BaseException:
            self.stop()
            raise

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def begin(self, name, *words, environment=None):
        log = open(self.place / f"{name}.out", "ab")
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   cwd=self.place, env={**os.environ, **(environment or {})})
        log.close()
        self.processes.append(process)

    def wait(self, what, is_so):
        end = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            if time.monotonic() > end or any(one.poll() is not None for one in self.processes):
                raise RuntimeError(f"{self.name}: waited in vain for {what}")
            time.sleep(0.05)

    def listens(self, port):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def client(self, connections=8):
        import boto3  # from PACKAGES
        from botocore.config import Config
        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=connections))

    def make_bucket(self):
        client = self.client()

        def is_made():
            try:
                client.create_bucket(Bucket="bench")
                client.put_object(Bucket="bench", Key="ready", Body=b"x")
                return True
            except Exception as error:  # it starts, or says that the bucket is there already
                if "BucketAlreadyOwnedByYou" in str(error):
                    client.put_object(Bucket="bench", Key="ready", Body=b"x")
                    return True
                return False
        self.wait("a bucket", is_made)

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.place, ignore_errors=True)


class SeaweedFS(Engine):
    name = "SeaweedFS"

    @staticmethod
    def program():
        path = PACKAGES["seaweedfs"] / "bin/weed"
        return str(path) if path.exists() else shutil.which("weed")

    @classmethod
    def is_here(cls):
        return cls.program() is not None

    def start(self):
        ports = free_ports(8)
        self.port, self.grpc = ports[0], ports[4:]
        (self.place / "data").mkdir()
        (self.place / "s3.json").write_text(
            '{"identities": [{"name": "bench", "actions": ["Admin", "Read", "Write", "List"], '
            f'"credentials": [{{"accessKey": "{ACCESS}", "secretKey": "{SECRET}"}}]}}]}}')
        options = []
        for server, port, grpc in zip(("s3", "master", "volume", "filer"), ports, self.grpc):
            options += [f"-{server}.port={port}", f"-{server}.port.grpc={grpc}"]
        self.begin(
            "server", self.program(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-dir={self.place / 'data'}", "-master.peers=none", "-master.telemetry=false",
            "-master.volumeSizeLimitMB=1024", "-volume.max=100", "-filer",
            f"-filer.localSocket={self.place / 'filer.sock'}", "-s3",
            f"-s3.localSocket={self.place / 's3.sock'}", f"-s3.config={self.place / 's3.json'}",
            "-s3.port.iceberg=0", "-s3.port.lance=0", *options)
        self.wait("the filer", lambda: self.listens(ports[3]) and self.listens(self.port))
        shell = [self.program(), "shell", f"-master=127.0.0.1:{ports[1]}.{self.grpc[1]}",
                 f"-filer=127.0.0.1:{ports[3]}.{self.grpc[3]}"]
        done = subprocess.run(
            shell, input="fs.configure -locationPrefix=/buckets/ -fsync=true -apply\n", text=True,
            capture_output=True, timeout=60)
        if '"fsync":  true' not in done.stdout:
            raise RuntimeError(f"SeaweedFS does not sync: {done.stdout}{done.stderr}")

    def stop(self):
        super().stop()
        for server, grpc in zip(("s3", "master", "volume", "filer"), self.grpc):
            try:  # left behind by a killed one
                os.unlink(f"/tmp/seaweedfs-{server}-grpc-{grpc}.sock")
            except FileNotFoundError:
                pass


class Ceph(Engine):
    name = "Ceph"
    OSDS = range(3)

    @staticmethod
    def is_here():
        return all(shutil.which(tool) for tool in ("ceph-mon", "ceph-osd", "radosgw"))

    def run(self, *words):
        return subprocess.run(words, cwd=self.place, check=True, capture_output=True, timeout=60,
                              text=True, env=self.environment).stdout

    def start(self):
        monitor, self.port = free_ports(2)
        place = self.place
        self.environment = {**os.environ, "CEPH_CONF": str(place / "ceph.conf")}
        identity = str(uuid.uuid4())
        (place / "ceph.conf").write_text(f"""[global]
fsid = {identity}
mon host = v2:127.0.0.1:{monitor}
public addr = 127.0.0.1
keyring = {place}/keyring
run dir = {place}
admin socket = {place}/$name.asok
log file = {place}/$name.log
mon cluster log file = {place}/cluster.log
crash dir = {place}/crash
mon data = {place}/mon
osd data = {place}/osd$id
rgw data = {place}/rgw
chdir =
osd objectstore = bluestore
bluestore block size = {64 << 30}
osd crush chooseleaf type = 0
osd pool default size = 3
osd pool default min size = 2
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
rgw rados pool pg num min = 8
mon data avail warn = 1
mon data avail crit = 1
paxos propose interval = 0.05
rgw frontends = beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1
""")
        for name in ("mon", "rgw", "crash", *(f"osd{number}" for number in self.OSDS)):
            (place / name).mkdir()
        (place / "keyring").touch(0o600)
        rights = {"mon.": ("mon", "allow *"), "client.rgw": ("mon", "allow rwx", "osd", "allow rwx"),
                  "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *")}
        for number in self.OSDS:
            rights[f"osd.{number}"] = ("mon", "allow profile osd", "osd", "allow *")
        for name, words in rights.items():
            caps = [word for pair in zip(words[::2], words[1::2]) for word in ("--cap", *pair)]
            self.run("ceph-authtool", "keyring", "--gen-key", "-n", name, *caps)
        self.run("monmaptool", "--create", "--fsid", identity, "--addv", "a",
                 f"[v2:127.0.0.1:{monitor}]", "monmap")
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        self.begin("monitor", "ceph-mon", "-f", "-i", "a", environment=self.environment)
        for number in self.OSDS:
            osd = str(uuid.uuid4())
            self.run("ceph", "osd", "new", osd)
            self.run("ceph-osd", "-i", str(number), "--mkfs", "--osd-uuid", osd)
            self.begin(f"osd{number}", "ceph-osd", "-f", "-i", str(number),
                       environment=self.environment)
        self.run("radosgw-admin", "user", "create", "--uid=bench", "--display-name=bench",
                 f"--access-key={ACCESS}", f"--secret-key={SECRET}")
        self.begin("gateway", "radosgw", "-f", "-n", "client.rgw", environment=self.environment)
