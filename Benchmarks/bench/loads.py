"""The loads: fio on the mounted file, and what is asked of them."""
import dataclasses
import json
import subprocess


@dataclasses.dataclass(frozen=True)
class Load:
    name: str
    title: str
    fio: tuple
    floor_target: float  # at least this ratio to F
    peer_target: float  # at least this ratio to Q
    latency: str = ""  # whose percentiles are shown: "write", "sync", or none

    @property
    def direction(self):
        return "read" if "--rw=randread" in self.fio else "write"


QD1 = ("--ioengine=psync", "--bs=4k", "--rw=randwrite")
QD16 = ("--ioengine=libaio", "--iodepth=16", "--direct=1", "--bs=4k")

LOADS = [
    Load("write-qd1", "4 KiB random write, QD1", QD1, 1.0, 5, "write"),
    Load("write-qd16", "4 KiB random write, QD16, O_DIRECT", QD16 + ("--rw=randwrite",), 0.85, 5),
    Load("write-seq", "1 MiB sequential write",
         ("--ioengine=psync", "--bs=1m", "--rw=write"), 0.55, 2.5),
    Load("write-sync", "4 KiB random write + fdatasync each", QD1 + ("--fdatasync=1",), 1.0, 4,
         "sync"),
    Load("write-sync32", "4 KiB random write, fdatasync every 32", QD1 + ("--fdatasync=32",),
         1.1, 8, "sync"),
    Load("read-qd16", "4 KiB random read, QD16, O_DIRECT", QD16 + ("--rw=randread",), 0.95, 3),
]


# A job that takes longer is stuck, and its log would fill the disk.
FIO_SECONDS_MAX = 600


def run_fio(path, arguments, size, seed, extra=()):
    """Runs one job; its result as fio's JSON has it."""
    command = ["fio", "--name=bench", f"--filename={path}", f"--size={size}", "--invalidate=0",
               "--norandommap", "--allrandrepeat=0", f"--randseed={seed}", "--output-format=json",
               *arguments, *extra]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FIO_SECONDS_MAX)
    start = done.stdout.find("{")
    if done.returncode != 0 or start < 0:
        raise RuntimeError(f"fio failed on {path}: {done.stderr.strip() or done.stdout.strip()}")
    job = json.loads(done.stdout[start:])["jobs"][0]
    if job["error"]:
        raise RuntimeError(f"fio failed on {path}: error {job['error']}")
    return job


def measure(load, path, size, seconds, seed):
    """One run: operations per second, bytes moved, latencies in microseconds."""
    job = run_fio(path, load.fio, size, seed, ("--time_based", f"--runtime={seconds}"))
    side = job[load.direction]
    result = {"iops": side["iops"], "bytes": side["io_bytes"]}
    if load.latency:
        times = job["sync"]["lat_ns"] if load.latency == "sync" else side["clat_ns"]
        percentiles = times.get("percentile", {})
        for name, key in (("p50", "50.000000"), ("p99", "99.000000"), ("p99.9", "99.900000")):
            if key in percentiles:
                result[name] = percentiles[key] / 1000
        result["max"] = times["max"] / 1000
    return result
