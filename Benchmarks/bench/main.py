"""Command line, order of the runs, table and JSON."""
import argparse
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile

from . import extras, objects, report, uring
from .loads import LOADS, measure
from .subjects import Floor, Logdisk, Peer

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SECTIONS = ("table", *extras.SECTIONS)
# Free space that a run needs: three logs that keep everything, or 10 GiB of history.
FREE_BYTES_MIN = 40 << 30
# A subject is made anew when its folder has grown by this much (logs keep everything).
FOLDER_BYTES_MAX = 10 << 30
# Each run has a reading of the whole file and this much of the load before it, not measured:
# memory that a virtual machine has given back to its host is very slow at first touch.
WARM_UP_SECONDS = 1


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="tools/bench", description="Speed of logdisk beside F (a minimal FUSE pass-through) "
        "and Q (qemu-storage-daemon with blklogwrites).",
        epilog="Exit codes: 0 all targets reached, 1 could not measure, 3 a target is missed.")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--seconds", type=float, default=3, help="length of a run (default 3)")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the disk (default 1024)")
    parser.add_argument("--rows", default=",".join(load.name for load in LOADS),
                        help="loads of the table, by name: %(default)s")
    parser.add_argument("--sections", default=",".join(SECTIONS),
                        help="what to measure: %(default)s")
    parser.add_argument("--quick", action="store_true",
                        help="one round of one second each, only the table")
    parser.add_argument("--without-q", action="store_true", help="leave Q out")
    parser.add_argument("--without-uring", action="store_true",
                        help="leave FUSE over io_uring off, as Linux has it by default")
    parser.add_argument("--dir", help="folder on the disk to measure (default: .build)")
    parser.add_argument("--binary", help="a built logdisk, instead of building one (for the "
                        "section replay, ReplayBench must lie beside it)")
    parser.add_argument("--json", metavar="FILE", help="write all results there")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds, options.sections = 1, 1, "table"
    options.rows = options.rows.split(",")
    options.sections = options.sections.split(",")
    for name in options.rows:
        if name not in [load.name for load in LOADS]:
            parser.error(f"no row {name}")
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"no section {name}")
    return options


def missing_tools(options):
    """What is needed and not there, in words."""
    tools = ["fio", "cc", "pkg-config", "umount", "cp"]
    if not options.without_q:
        tools.append("qemu-storage-daemon")
    if not options.binary:
        tools.append("swift")
    if "shipping" in options.sections:
        tools += ["openssl", "curl", "ip", "tc", "nsenter", "cmp"]
    if "spread" in options.sections:
        tools += ["fpart", "find", "sync"]
    found = [f"{tool} is not installed" for tool in tools if not shutil.which(tool)]
    if "objects" in options.sections:
        found += objects.missing()
    if shutil.which("pkg-config") and subprocess.run(["pkg-config", "--exists", "fuse3"]).returncode:
        found.append("the headers of libfuse 3 are not installed (libfuse3-dev)")
    if not os.path.exists("/dev/fuse"):
        found.append("there is no /dev/fuse")
    return found


def build(options, work):
    """Paths of F and of logdisk."""
    floor = work / "floor"
    subprocess.run(["make", "-s", "-C", ROOT / "Benchmarks/floor", f"OUT={floor}"], check=True)
    if options.binary:
        return floor, pathlib.Path(options.binary).resolve()
    print("building logdisk (release) ...", flush=True)
    command = ["swift", "build", "-c", "release", "--package-path", ROOT]
    products = ["logdisk"] + (["ReplayBench"] if "replay" in options.sections else [])
    for product in products:
        subprocess.run([*command, "--product", product, "--quiet"], check=True)
    place = subprocess.run([*command, "--show-bin-path"], check=True, capture_output=True, text=True)
    return floor, pathlib.Path(place.stdout.strip()) / "logdisk"


def folder_bytes(folder):
    done = subprocess.run(["du", "-s", "-B1", folder], capture_output=True, text=True)
    return int(done.stdout.split()[0]) if done.stdout else 0


def read_all(path):
    """Brings the file into the page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def run_load(load, subjects, options):
    """All rounds of one load: name of subject -> list of results."""
    results = {subject.name: [] for subject in subjects}
    written = {}
    try:
        for subject in subjects:
            subject.start()
            written[subject.name] = 0
        for number in range(options.rounds):
            # Another one begins each time: what is left in the machine harms all alike.
            shift = number % len(subjects)
            for subject in subjects[shift:] + subjects[:shift]:
                if folder_bytes(subject.folder) > FOLDER_BYTES_MAX:
                    subject.stop()
                    subject.start()
                    written[subject.name] = 0
                subject.settle()
                cpu, disk = subject.usage()
                size = f"{options.size}m"
                read_all(subject.file)
                warm_up = measure(load, subject.file, size, WARM_UP_SECONDS, 1000 + number)
                result = measure(load, subject.file, size, options.seconds, number + 1)
                subject.settle()
                moved = warm_up["bytes"] + result["bytes"]
                if load.direction == "write":
                    written[subject.name] += moved
                    subject.check(written[subject.name])
                cpu_after, disk_after = subject.usage()
                result["cpu_seconds_per_gib"] = (cpu_after - cpu) / (moved / 2**30)
                result["disk_bytes_per_byte"] = (disk_after - disk) / moved
                results[subject.name].append(result)
                print(f"  {load.name} round {number + 1}: {subject.name} "
                      f"{result['iops']:.0f}/s", flush=True)
    finally:
        for subject in subjects:
            subject.stop()
    return results


def main():
    options = parse(sys.argv[1:])
    problems = missing_tools(options)
    if problems:
        print("\n".join(f"tools/bench: {problem}" for problem in problems), file=sys.stderr)
        print("hint: tools/setup --bench", file=sys.stderr)
        return 1
    if os.geteuid() != 0:
        print("tools/bench: needs root (F mounts by the system call)", file=sys.stderr)
        return 1
    # In a mount namespace of its own: a namespace that someone else makes meanwhile would hold
    # copies of these mounts, and their daemons would not end.
    if "LOGDISK_BENCH_NAMESPACE" not in os.environ:
        os.environ["LOGDISK_BENCH_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private",
                              sys.executable, *sys.argv])
    base = pathlib.Path(options.dir).resolve() if options.dir else ROOT / ".build"
    base.mkdir(exist_ok=True)
    if shutil.disk_usage(base).free < FREE_BYTES_MIN:
        print(f"tools/bench: {base} has less than {FREE_BYTES_MIN >> 30} GiB free",
              file=sys.stderr)
        print("hint: --dir FOLDER on another disk", file=sys.stderr)
        return 1
    # Mounts are taken away also when somebody ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    work = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=base))
    try:
        floor, program = build(options, work)
        with uring.switched(not options.without_uring) as is_on:
            return measure_all(options, work, floor, program, is_on)
    except (RuntimeError, subprocess.SubprocessError, OSError) as error:
        print(f"tools/bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)


def measure_all(options, work, floor, program, uring_is_on):
    template = work / "template"
    with open(template, "wb") as file:
        for _ in range(options.size):
            file.write(os.urandom(1 << 20))
    results = {"machine": {**machine(work), "uring": uring_is_on}, "rounds": options.rounds, "seconds": options.seconds,
               "size_mib": options.size, "table": {}}
    print(report.heading(results["machine"]), flush=True)
    try:
        if "table" in options.sections:
            for load in [load for load in LOADS if load.name in options.rows]:
                subjects = [Floor(work / "f", template, floor),
                            Logdisk(work / "l", template, program)]
                if not options.without_q:
                    subjects.append(Peer(work / "q", template))
                results["table"][load.name] = run_load(load, subjects, options)
        for name in options.sections:
            if name in extras.SECTIONS:
                print(f"  {name} ...", flush=True)
                results[name] = extras.SECTIONS[name](work, template, program, options)
    finally:
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    text, is_reached = report.render(results)
    print(text)
    return 0 if is_reached else 3


def machine(work):
    model = ""
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    done = subprocess.run(["findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", work],
                          capture_output=True, text=True)
    return {"processors": os.cpu_count(), "model": model, "kernel": platform.release(),
            "disk": " ".join(done.stdout.split()), "load": os.getloadavg()[0]}
