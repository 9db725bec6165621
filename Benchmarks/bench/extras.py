"""What the table does not show: memory, opening after a crash, replay, an idle mount.

Each section takes (work folder, template file, logdisk program, options) and returns a dictionary
of numbers for the report; `ok` says whether the target is reached.
"""
import os
import pathlib
import re
import subprocess
import sys
import time

from .loads import QD1, QD16, run_fio
from .middle import median
from .objects import objects
from .past import past
from .shipping import shipping
from .spread import spread
from .subjects import Logdisk

RING_MIB = 64
MEMORY_MIB_MAX = 64
OPEN_SECONDS_MAX = 2
IDLE_CPU_SHARE_MAX = 0.001
IDLE_SECONDS = 60
HISTORY_BYTES = 10 << 30
ALLOCATION_REQUESTS = 100_000
THINNING_MIB_MIN = 500
THINNING_RATIO_MIN = 0.5
# Threads that tick, the control socket and the archiver allocate now and then.
ALLOCATIONS_MAX = 0.01


def with_volume(work, template, program, body, environment=None):
    subject = Logdisk(work / "extra", template, program, f"{RING_MIB}M", environment)
    try:
        subject.start()
        return body(subject)
    finally:
        subject.stop()


def memory(work, template, program, options):
    """Peak memory of the mount after 10 GiB of writes, without the ring."""

    def body(subject):
        run_fio(subject.file, ("--ioengine=psync", "--bs=64k", "--rw=randwrite"),
                f"{options.size}m", 1, (f"--io_size={HISTORY_BYTES}",))
        subject.settle()
        text = pathlib.Path(f"/proc/{subject.pid}/status").read_text()
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", text).group(1)) / 1024
        return {"peak_mib": peak, "ring_mib": RING_MIB, "ok": peak - RING_MIB <= MEMORY_MIB_MAX}

    return with_volume(work, template, program, body)


def recovery(work, template, program, options):
    """Seconds until a volume is usable again after kill -9 under load, that is with a full ring."""

    def body(subject):
        seconds = []
        for seed in range(max(options.rounds, 1)):
            load = subprocess.Popen(
                ["fio", "--name=bench", f"--filename={subject.file}", f"--size={options.size}m",
                 *QD16, "--rw=randwrite", "--time_based", "--runtime=60", f"--randseed={seed + 1}"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(3)
            subject.kill()
            load.wait()
            begin = time.monotonic()
            subject.mount()
            with open(subject.file, "rb") as file:
                file.read(4096)
            seconds.append(time.monotonic() - begin)
        return {"seconds": seconds, "ok": max(seconds) < OPEN_SECONDS_MAX}

    return with_volume(work, template, program, body)


def replay(work, template, program, options):
    """Replay beside cp and beside doing the records again one by one.

    First `logdisk replay` of a mounted volume in which every block was written once, beside cp of
    its image. Then the engine alone (Benchmarks/ReplayBench).
    """

    def body(subject):
        # Without --norandommap each block is written exactly once.
        subprocess.run(
            ["fio", "--name=bench", f"--filename={subject.file}", f"--size={options.size}m",
             "--ioengine=psync", "--rw=randwrite", "--bs=4k", "--end_fsync=1"],
            check=True, stdout=subprocess.DEVNULL)
        subject.settle()
        output = work / "replayed"
        times = {"replay": [], "cp": []}
        for _ in range(max(options.rounds, 1)):
            for name, command in (
                ("replay", [program, "replay", subject.volume, "--at", "now", "--output", output]),
                ("cp", ["cp", "--reflink=never", "--sparse=never",
                        subject.volume / "image.raw", output]),
            ):
                output.unlink(missing_ok=True)
                os.sync()
                begin = time.monotonic()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
                with open(output, "rb") as file:
                    os.fsync(file.fileno())
                times[name].append(time.monotonic() - begin)
                if name == "replay" and subprocess.run(["cmp", output, subject.file]).returncode:
                    raise RuntimeError("replay gives other bytes than the live disk")
        output.unlink()
        return {**times, "ratio": median(times["cp"]) / median(times["replay"])}

    result = {"command": with_volume(work, template, program, body)}
    folder = work / "replay"
    folder.mkdir()
    done = subprocess.run(
        [program.parent / "ReplayBench", folder, str(options.size), str(max(options.rounds, 1))],
        check=True, capture_output=True, text=True)
    result["engine"] = [
        {"name": name, "rival": rival, "ratio": float(ratio)} for name, rival, ratio in
        re.findall(r"^(.*): replay [\d.]+ s, (\w+) [\d.]+ s, ratio ([\d.]+)", done.stdout, re.M)]
    size, seconds, _, ratio = re.search(
        r"^thinning: (\d+) MiB in ([\d.]+) s, read in ([\d.]+) s, ratio ([\d.]+)", done.stdout,
        re.M).groups()
    rate = int(size) / float(seconds)
    result["thinning"] = {
        "mib_per_second": rate, "ratio": float(ratio),
        "ok": rate >= THINNING_MIB_MIN or float(ratio) >= THINNING_RATIO_MIN}
    return result


def allocations(work, template, program, options):
    """Heap allocations of the mount per 4 KiB write and read in steady state."""
    library, counter = work / "count.so", work / "allocations"
    source = pathlib.Path(__file__).resolve().parent.parent / "allocations" / "count.c"
    subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, source], check=True)

    def counted(subject, rw):
        before = count()
        run_fio(subject.file, (*QD16, f"--rw={rw}"), f"{options.size}m", 2,
                (f"--io_size={ALLOCATION_REQUESTS * 4096}",))
        return (count() - before) / ALLOCATION_REQUESTS

    def count():
        return int.from_bytes(counter.read_bytes(), sys.byteorder)

    def body(subject):
        for rw in ("randwrite", "randread"):  # until all memory of the threads is there
            counted(subject, rw)
        result = {"write": counted(subject, "randwrite"), "read": counted(subject, "randread")}
        if count() == 0:
            raise RuntimeError("nothing was counted: the library was not loaded")
        return {**result, "ok": max(result.values()) < ALLOCATIONS_MAX}

    # Only the mount has them: whoever else loads the library counts into the same number.
    environment = {"LD_PRELOAD": str(library), "LOGDISK_ALLOCATIONS": str(counter)}
    return with_volume(work, template, program, body, environment)


def idle(work, template, program, options):
    """One minute without requests: writes and CPU of the daemon."""

    def body(subject):
        run_fio(subject.file, QD1, f"{options.size}m", 1, ("--time_based", "--runtime=2"))
        subject.settle()
        # The settling asked the daemon for its state; from here on nothing asks.
        time.sleep(2)
        cpu, written = subject.usage()[0], given_to_disk(subject.pid)
        time.sleep(IDLE_SECONDS)
        share = (subject.usage()[0] - cpu) / IDLE_SECONDS
        written = given_to_disk(subject.pid) - written
        return {"cpu_share": share, "disk_bytes": written,
                "ok": written == 0 and share < IDLE_CPU_SHARE_MAX}

    return with_volume(work, template, program, body)


def given_to_disk(pid):
    """Bytes that the process caused to be written; exact when there are none."""
    text = pathlib.Path(f"/proc/{pid}/io").read_text()
    return int(re.search(r"^write_bytes: (\d+)", text, re.M).group(1))


def past_states(work, template, program, options):
    """Past mounts of a volume with a long history."""
    return with_volume(work, template, program, lambda subject: past(subject, options))


SECTIONS = {"memory": memory, "recovery": recovery, "replay": replay, "allocations": allocations,
            "past": past_states, "shipping": shipping, "objects": objects, "spread": spread,
            "idle": idle}
