"""Spreading: how fast a set is written, planned and scanned, and in how much memory.

Everything is compared with a program that does the plain half of it on the same disk, in turn, with
the page cache warm for both. A set is durable when `run` ends, so `cp` is followed by `sync`.
"""
import os
import pathlib
import random
import shutil
import subprocess
import time

from .children import timed_with_peak
from .middle import median

DEVICES = 3
RATE_MB = 40
RATE_SECONDS = 8
RATE_RATIO_MIN = 0.95
COPY_MIB = 2048
SMALL_FILES = 100_000
SMALL_BYTES = 1024
COPY_RATIO_MIN = 0.9
MEMORY_MIB_MAX = 64
FILE_BYTES_MAX = 200
PLAN_FILES = 1_000_000
PLAN_RATIO_MAX = 2
SCAN_RATIO_MAX = 1.5


def spread(work, template, program, options):
    """The section: numbers by name, each with its verdict."""
    place = work / "spread"
    place.mkdir()
    try:
        small = place / "small"
        make_small(small)
        copies = {"large": copy(place, make_large(place / "large"), program, options),
                  "small": copy(place, small, program, options)}
        return {"rates": rates(place, program, options), "copy": copies,
                "memory": memory(place, small, program),
                "plan": plan(place, program, options),
                "scan": scan(place, small, program, options)}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def make_large(folder):
    """Files from a megabyte to a quarter of all, COPY_MIB together."""
    folder.mkdir()
    left, number = COPY_MIB, 0
    while left > 0:
        size = max(min(left // 4, 256), 1)
        (folder / f"file{number}").write_bytes(os.urandom(size << 20))
        left, number = left - size, number + 1
    return folder


def make_small(folder):
    """SMALL_FILES files in folders of a hundred."""
    folder.mkdir()
    for number in range(SMALL_FILES):
        inside = folder / f"folder{number // 100:04}"
        if number % 100 == 0:
            inside.mkdir()
        (inside / f"file{number:06}").write_bytes(os.urandom(SMALL_BYTES))


def content(folder):
    """Files and bytes below a folder."""
    sizes = [entry.stat().st_size for entry in folder.rglob("*") if entry.is_file()]
    return len(sizes), sum(sizes)


class Devices:
    """New, empty folders as devices, and the words that name them."""

    def __init__(self, place, options=""):
        self.folders = [place / f"device{number}" for number in range(DEVICES)]
        for folder in self.folders:
            folder.mkdir()
        self.words = [word for folder in self.folders
                      for word in ("--device", f"dir:{folder}{options}")]

    def remove(self):
        for folder in self.folders:
            shutil.rmtree(folder)


def timed(*command):
    """Seconds of a command that must end well; its output goes nowhere."""
    begin = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return time.monotonic() - begin


def peak_bytes(*command):
    """The most memory that a command took."""
    return timed_with_peak([str(word) for word in command])[1] * 2**20


def run_words(program, source, devices, name="set"):
    return [program, "spread", "run", source, "--set", name, "--json", *devices.words]


def rates(place, program, options):
    """Several devices, each with a limit: bytes a second, as a part of the sum of the limits."""
    source = place / "limited"
    source.mkdir()
    total = RATE_MB * 10**6 * DEVICES * RATE_SECONDS
    for number in range(12):
        with open(source / f"file{number}", "wb") as file:
            for _ in range(total // 12 >> 20):
                file.write(os.urandom(1 << 20))
    _, total = content(source)
    ratios = []
    for _ in range(max(options.rounds, 1)):
        devices = Devices(place, f"?rate={RATE_MB}MB/s")
        os.sync()
        seconds = timed(*run_words(program, source, devices))
        ratios.append(total / seconds / (RATE_MB * 1e6 * DEVICES))
        devices.remove()
    shutil.rmtree(source)
    ratio = median(ratios)
    return {"ratios": ratios, "ratio": ratio, "ok": ratio >= RATE_RATIO_MIN}


def copy(place, source, program, options):
    """`spread run` to devices on one disk beside `cp -r` and `sync` to one folder there."""
    target = place / "copied"
    seconds = {"run": [], "cp": []}
    for number in range(max(options.rounds, 1) + 1):
        order = ["run", "cp"] if number % 2 else ["cp", "run"]
        for name in order:
            os.sync()
            if name == "cp":
                took = timed("cp", "-r", "--reflink=never", source, target)
                took += timed("sync", "-f", target)
                shutil.rmtree(target)
            else:
                devices = Devices(place)
                took = timed(*run_words(program, source, devices))
                devices.remove()
            if number:  # the first one brings everything into the page cache
                seconds[name].append(took)
    files, total = content(source)
    ratio = median(seconds["cp"]) / median(seconds["run"])
    return {**seconds, "files": files, "bytes": total, "ratio": ratio,
            "ok": ratio >= COPY_RATIO_MIN}


def memory(place, source, program):
    """Peak memory of writing a set of many files, and of restoring it."""
    devices = Devices(place)
    output = place / "restored"
    files, _ = content(source)
    limit = (MEMORY_MIB_MAX << 20) + FILE_BYTES_MAX * files
    run = peak_bytes(*run_words(program, source, devices))
    restore = peak_bytes(program, "spread", "restore", "--set", "set", "--output", output,
                         *devices.words)
    devices.remove()
    shutil.rmtree(output)
    return {"files": files, "run_mib": run / 2**20, "restore_mib": restore / 2**20,
            "limit_mib": limit / 2**20, "ok": max(run, restore) <= limit}


def plan(place, program, options):
    """A plan of a million files beside fpart on the same list, in time; and its memory."""
    sizes = place / "sizes"
    chance = random.Random(1)
    with open(sizes, "w") as file:
        for number in range(PLAN_FILES):
            size = min(int(chance.paretovariate(0.8) * 100), 1 << 28)  # some gigabytes in all
            file.write(f"{size} folder{number // 1000:04}/file{number:07}\n")
    words = [program, "spread", "plan", "--sizes-from", sizes, "--json"]
    for number in range(DEVICES):
        folder = place / f"planned{number}"
        folder.mkdir()
        words += ["--device", f"dir:{folder}"]
    fpart = ["fpart", "-n", str(DEVICES), "-a", "-i", sizes]
    seconds = {"plan": [], "fpart": []}
    for number in range(max(options.rounds, 1)):
        for name in (("plan", "fpart") if number % 2 else ("fpart", "plan")):
            seconds[name].append(timed(*(words if name == "plan" else fpart)))
    peak = peak_bytes(*words)
    limit = (MEMORY_MIB_MAX << 20) + FILE_BYTES_MAX * PLAN_FILES
    ratio = median(seconds["plan"]) / median(seconds["fpart"])
    return {**seconds, "files": PLAN_FILES, "ratio": ratio, "ok": ratio <= PLAN_RATIO_MAX,
            "peak_mib": peak / 2**20, "limit_mib": limit / 2**20, "memory_ok": peak <= limit}


def scan(place, source, program, options):
    """`spread threshold`, which scans and adds up, beside find."""
    seconds = {"threshold": [], "find": []}
    devices = Devices(place)
    commands = {"threshold": [program, "spread", "threshold", source, *devices.words],
                "find": ["find", source, "-printf", "%s\n"]}
    for number in range(3 * max(options.rounds, 1) + 1):
        for name in (("threshold", "find") if number % 2 else ("find", "threshold")):
            took = timed(*commands[name])
            if number:
                seconds[name].append(took)
    devices.remove()
    files, _ = content(source)
    ratio = median(seconds["threshold"]) / median(seconds["find"])
    return {**seconds, "files": files, "ratio": ratio, "ok": ratio <= SCAN_RATIO_MAX}
