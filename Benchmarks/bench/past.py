"""Past states: how soon one can be read, how fast, and what it costs the live mount."""
import os
import pathlib
import re
import subprocess
import time

from .loads import QD16, run_fio
from .middle import median

RECORDS = 1_000_000
FIRST_READ_SECONDS_MAX = 1
READ_RATIO_MIN = 0.5
VIEW_MIB_MAX = 512
OPEN_VIEWS = 10
WRITE_RATIO_MIN = 0.95
PRUNE_RATIO_MIN = 0.9


def past(subject, options):
    """The section: numbers by name, each with its verdict."""
    run_fio(subject.file, (*QD16, "--rw=randwrite"), f"{options.size}m", 1,
            (f"--io_size={RECORDS * 4096}",))
    subject.settle()
    subject.call("mark", subject.volume, "end")
    subject.call("points", subject.volume, "--json")  # brings everything into segments
    point = PastMount(subject, f"lsn:{RECORDS}")
    try:
        result = {"first_read": first_read(point, options), "reads": reads(subject, point, options)}
    finally:
        point.stop()
    return {**result, "memory": {"peak_mib": point.peak_mib, "ok": point.peak_mib <= VIEW_MIB_MAX},
            "views": open_views(subject, options), "prune": pruning(subject, options)}


class PastMount:
    """`logdisk mount --at`, and how long it took until the first bytes were read."""

    def __init__(self, subject, target):
        self.subject, self.target = subject, target
        self.folder = pathlib.Path(f"{subject.folder}-past")
        self.folder.mkdir(exist_ok=True)
        self.file = self.folder / "disk.img"
        self.peak_mib = 0
        self.is_mounted = False

    def start(self):
        begin = time.monotonic()
        self.subject.call("mount", self.subject.volume, self.folder, "--at", self.target)
        self.is_mounted = True
        with open(self.file, "rb") as file:
            file.read(4096)
        return time.monotonic() - begin

    def stop(self):
        if not self.is_mounted:
            return
        status = self.subject.call("status", self.folder, "--json")
        pid = int(re.search(r'"pid" : (\d+)', status).group(1))
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
        self.peak_mib = max(
            self.peak_mib, int(re.search(r"VmHWM:\s+(\d+) kB", text).group(1)) / 1024)
        self.subject.call("unmount", self.folder)
        self.is_mounted = False


def first_read(point, options):
    seconds = []
    for _ in range(max(options.rounds, 1)):
        seconds.append(point.start())
        point.stop()
    return {"seconds": seconds, "ok": median(seconds) < FIRST_READ_SECONDS_MAX}


def reads(subject, point, options):
    """4 KiB random reads, QD16, of the past mount beside the live one."""
    point.start()
    rates = {"live": [], "past": []}
    files = {"live": subject.file, "past": point.file}
    for file in files.values():
        subprocess.run(["dd", f"if={file}", "of=/dev/null", "bs=1M", "status=none"], check=True)
    for seed in range(max(options.rounds, 1)):
        for name, file in files.items():
            job = run_fio(file, (*QD16, "--rw=randread", "--readonly"), f"{options.size}m",
                          seed + 1, ("--time_based", f"--runtime={options.seconds}"))
            rates[name].append(job["read"]["iops"])
    ratio = median(rates["past"]) / median(rates["live"])
    return {**rates, "ratio": ratio, "ok": ratio >= READ_RATIO_MIN}


def pruning(subject, options):
    """Random writes to the live mount while its history is thinned, beside without."""
    rates = []
    for program in (None, [subject.program, "prune", subject.volume, "--keep", "newest 1w"]):
        process = program and subprocess.Popen(
            program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            job = run_fio(subject.file, (*QD16, "--rw=randwrite"), f"{options.size}m", 1,
                          ("--time_based", f"--runtime={options.seconds}"))
            # Else it ended before the load did, and the number means little.
            was_pruning = process is None or process.poll() is None
        finally:
            if process and process.wait() != 0:
                raise RuntimeError("logdisk prune failed under load")
        rates.append(job["write"]["iops"])
        subject.settle()
    ratio = rates[1] / rates[0]
    return {"rates": rates, "ratio": ratio, "whole": was_pruning, "ok": ratio >= PRUNE_RATIO_MIN}


def open_views(subject, options):
    """Random writes to the live mount, with and without open files of past states."""
    rates = {"none": [], "open": []}
    for seed in range(max(options.rounds, 1)):
        for name, count in (("none", 0), ("open", OPEN_VIEWS)):
            files = [os.open(f"{subject.file.parent}/at/lsn:{RECORDS // (number + 1)}/disk.img",
                             os.O_RDONLY) for number in range(count)]
            try:
                for file in files:
                    os.pread(file, 4096, 0)
                job = run_fio(subject.file, (*QD16, "--rw=randwrite"), f"{options.size}m",
                              seed + 1, ("--time_based", f"--runtime={options.seconds}"))
            finally:
                for file in files:
                    os.close(file)
            rates[name].append(job["write"]["iops"])
            subject.settle()
    ratio = median(rates["open"]) / median(rates["none"])
    return {**rates, "ratio": ratio, "ok": ratio >= WRITE_RATIO_MIN}
