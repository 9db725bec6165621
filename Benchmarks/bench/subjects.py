"""The three that are compared. Each has a folder, a daemon, and a file to load."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from . import uring


class Subject:
    """A file on a FUSE mount with a process behind it. `template` is its first content."""

    name = ""

    def __init__(self, folder, template):
        self.folder = pathlib.Path(folder)
        self.template = template
        self.process = None
        self.pid = None

    def start(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.prepare()
        os.sync()
        self.mount()

    def prepare(self):
        """Makes what the daemon serves, fully allocated."""
        copy(self.template, self.folder / "image")

    def mount(self):
        """Starts the daemon; returns when the file can be used."""
        raise NotImplementedError

    @property
    def file(self):
        return self.folder / "mount" / "disk.img"

    def settle(self):
        """Waits until nothing of the last run is left to do."""
        os.sync()

    def check(self, written):
        """Whether the subject did its work, `written` bytes after its start."""

    def stop(self):
        if self.process is not None:
            unmount(self.folder / "mount")
            finish(self.process)
            self.process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def usage(self):
        """(CPU seconds of the daemon, bytes written to the disk by anyone) until now.

        write_bytes of /proc/PID/io would be the daemon's alone, but counts whole folios of the
        page cache for each small write: up to 32 times what reaches the disk.
        """
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK"), disk_bytes(self.folder)


class Floor(Subject):
    name = "F"

    def __init__(self, folder, template, program):
        super().__init__(folder, template)
        self.program = program

    def mount(self):
        (self.folder / "mount").mkdir()
        self.process = subprocess.Popen(
            [self.program, self.folder / "image", self.folder / "mount"])
        self.pid = self.process.pid
        wait_for_mount(self.file, self.process)


class Logdisk(Subject):
    name = "logdisk"

    def __init__(self, folder, template, program, ring="64M", environment=None):
        """`environment`: variables for the mount's process, besides those of this one."""
        super().__init__(folder, template)
        self.program = program
        self.ring = ring
        self.environment = environment
        self.is_mounted = False

    @property
    def volume(self):
        return self.folder / "volume"

    def call(self, *arguments, environment=None):
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True,
                              env={**os.environ, **(environment or {})})
        if done.returncode != 0:
            raise RuntimeError(f"logdisk {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def prepare(self):
        # The default on a large disk; on a small one the bench would measure how small it is.
        self.call("create", self.volume, "--from", self.template, "--wal-size", "16G")

    def mount(self):
        (self.folder / "mount").mkdir(exist_ok=True)
        self.call("mount", self.volume, self.folder / "mount", "--ring", self.ring,
                  environment=self.environment)
        self.is_mounted = True
        os.stat(self.file)  # the kernel asks its first question
        status = self.status()
        self.pid = status["pid"]
        if (status["transport"] == "io-uring") != uring.is_on():
            raise RuntimeError(f"requests come by {status['transport']}, against the heading")

    def status(self):
        return json.loads(self.call("status", self.volume, "--json"))

    def settle(self):
        """Also until all is applied and archived, but for less than a segment."""
        last, since, limit = None, time.monotonic(), time.monotonic() + 300
        while time.monotonic() < limit:
            status = self.status()
            now = (status["archived_lsn"], status["segment_bytes"], status["wal_bytes"])
            if now != last or status["applied_lsn"] != status["published_lsn"]:
                last, since = now, time.monotonic()
            elif status["unarchived_bytes"] < 64 << 20 and time.monotonic() - since > 1:
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"logdisk does not come to rest: {status}")
        os.sync()

    def kill(self):
        """Ends the daemon as a crash does, and takes the dead mount away."""
        os.kill(self.pid, signal.SIGKILL)
        while is_running(self.pid):
            time.sleep(0.01)
        unmount(self.folder / "mount")
        self.is_mounted = False

    def stop(self):
        if self.is_mounted:
            self.call("unmount", self.folder / "mount")
            self.is_mounted = False
        shutil.rmtree(self.folder, ignore_errors=True)


class Peer(Subject):
    """qemu-storage-daemon. Its FUSE export mounts onto a file rather than a folder."""

    name = "Q"

    def mount(self):
        self.file.parent.mkdir()
        self.file.touch()
        log = self.folder / "log"
        log.touch()
        self.process = subprocess.Popen([
            "qemu-storage-daemon",
            "--blockdev", f"driver=file,node-name=image,filename={self.folder / 'image'}",
            "--blockdev", f"driver=file,node-name=log,filename={log}",
            "--blockdev", "driver=blklogwrites,node-name=logged,file=image,log=log,"
                          "log-sector-size=512",
            "--export", f"type=fuse,id=export,node-name=logged,mountpoint={self.file},writable=on",
        ])
        self.pid = self.process.pid
        wait_for_mount(self.file, self.process)

    def check(self, written):
        if (self.folder / "log").stat().st_size < written:
            raise RuntimeError("Q does not log what is written: the comparison would be void")

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            finish(self.process)
            self.process = None
        unmount(self.file)
        shutil.rmtree(self.folder, ignore_errors=True)


def copy(source, target):
    subprocess.run(["cp", "--reflink=never", "--sparse=never", source, target], check=True)


def wait_for_mount(path, process):
    """Until the file has a size: then the daemon answers."""
    for _ in range(1000):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended with {process.returncode}")
        try:
            if os.stat(path).st_size > 0:
                return
        except OSError:
            pass
        time.sleep(0.01)
    raise RuntimeError(f"{process.args[0]} shows no file")


def unmount(path):
    if subprocess.run(["umount", path], capture_output=True).returncode != 0:
        subprocess.run(["umount", "--lazy", path], capture_output=True)


def finish(process):
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def disk_bytes(path):
    """Bytes written so far to the block device below `path`; 0 where there is none (tmpfs)."""
    device = os.stat(path).st_dev
    try:
        place = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"
        return int(pathlib.Path(place).read_text().split()[6]) * 512
    except OSError:
        return 0
