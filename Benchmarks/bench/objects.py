"""Object storage: how fast history gets there and back beside other programs on the same engine.

Each engine is real and on this machine, so both sides share its processors with it: what is compared
is the same bytes, in parts of 8 MiB over as many connections, in turn. Puts go beside boto3's transfer
manager and rclone, whichever is faster; replay beside ranged gets of the same objects into files.
"""
import os
import pathlib
import shutil
import subprocess
import time

from . import engines
from .children import timed_with_peak
from .middle import median
from .shipping import Delay, run
from .subjects import Logdisk
from .tools import import_from

PART_MIB = 8
CONNECTIONS = 8
SEGMENTS = 64
PUT_RATIO_MIN = 0.8
GET_RATIO_MIN = 0.8
SIGNING_SHARE_MAX = 0.03
FIRST_READ_SECONDS_MAX = 1
# What the client needs besides the parts that are on their way.
CLIENT_MIB = 64
MEMORY_MIB_MAX = CLIENT_MIB + CONNECTIONS * PART_MIB * 5 // 4


def missing():
    """What is needed and not there, in words."""
    found = [f"{tool} is not installed" for tool in ("rclone", "perf") if not shutil.which(tool)]
    if not import_from("boto3"):
        found.append("boto3 is not in .build/boto3")
    if not engines.SeaweedFS.is_here():
        found.append("SeaweedFS is not in .build/seaweedfs")
    return found


def objects(work, template, program, options):
    """The section: for each engine numbers by name, each with its verdict."""
    import_from("boto3")
    place = work / "objects"
    place.mkdir()
    kinds = [kind for kind in (engines.SeaweedFS, engines.Ceph) if kind.is_here()]
    try:
        return {kind.name: measure(kind, place, program, options) for kind in kinds}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def measure(kind, place, program, options):
    engine = kind(place / kind.name.lower())
    try:
        volume = make_volume(place / f"{kind.name}-volume", engine, program)
        speed = put_speed(place, volume, engine, program, options)
        return {"put": speed, "get": get_speed(place, volume, engine, program, options),
                "signing": signing(place, volume, engine, program),
                "first_read": first_read(place, engine, program, options)}
    finally:
        engine.stop()


def access(engine, port=None):
    return ["--endpoint", f"http://127.0.0.1:{port or engine.port}", "--path-style",
            "--credentials", engine.keys]


def make_volume(folder, engine, program):
    """One with SEGMENTS segments of 8 MiB that cover it, each once, all kept here."""
    run(program, "create", folder, "--size", f"{SEGMENTS * PART_MIB}M", "--wal-size", "256M")
    mount = folder.parent / f"{folder.name}-mount"
    mount.mkdir()
    run(program, "remote", "add", folder, "cut", "s3://bench/cut", *access(engine), "--when",
        "always")
    run(program, "mount", folder, mount)
    try:
        for number in range(SEGMENTS):
            with open(mount / "disk.img", "r+b", buffering=0) as file:
                file.seek(number * (PART_MIB << 20))
                file.write(os.urandom(PART_MIB << 20))
                os.fsync(file.fileno())
            run(program, "ship", folder, "cut", "--now", "--wait")
    finally:
        run(program, "unmount", mount)
    run(program, "remote", "remove", folder, "cut")
    return folder


def segment_files(volume):
    return sorted((volume / "segments").glob("*.segment"))


def total_bytes(volume):
    return sum(file.stat().st_size for file in segment_files(volume))


def ship(volume, engine, program, name):
    """Seconds and memory of shipping everything to a new place, without what attaching takes."""
    run(program, "remote", "add", volume, name, f"s3://bench/{name}", *access(engine), "--when",
        "always", "--object-size", f"{PART_MIB}M")
    command = [program, "ship", volume, name, "--now", "--wait"]
    seconds, peak = timed_with_peak(command)
    idle, _ = timed_with_peak(command)
    run(program, "remote", "remove", volume, name)
    return seconds - idle, peak, idle


def rclone_environment(engine):
    prefix = "RCLONE_CONFIG_ENGINE_"
    values = {"TYPE": "s3", "PROVIDER": "Other", "ACCESS_KEY_ID": engines.ACCESS,
              "SECRET_ACCESS_KEY": engines.SECRET, "ENDPOINT": engine.endpoint,
              "REGION": "us-east-1", "FORCE_PATH_STYLE": "true", "NO_CHECK_BUCKET": "true",
              "CHUNK_SIZE": f"{PART_MIB}M", "UPLOAD_CUTOFF": f"{PART_MIB}M",
              "UPLOAD_CONCURRENCY": str(CONNECTIONS)}
    # What the machine has set for its own stores is not for this one.
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**others, "RCLONE_CONFIG": "/dev/null",
            **{prefix + name: value for name, value in values.items()}}


def rclone(engine, source, target):
    begin = time.monotonic()
    subprocess.run(["rclone", "copy", source, target, "--transfers", str(CONNECTIONS),
                    "--multi-thread-streams", str(CONNECTIONS), "--multi-thread-cutoff",
                    f"{PART_MIB}M", "--no-check-dest"],
                   check=True, capture_output=True, env=rclone_environment(engine))
    return time.monotonic() - begin


def transfer_manager(engine):
    from s3transfer.manager import TransferConfig, TransferManager
    size = PART_MIB << 20
    return TransferManager(engine.client(CONNECTIONS), TransferConfig(
        multipart_threshold=size + 1, multipart_chunksize=size,
        max_request_concurrency=CONNECTIONS))


def put_speed(place, volume, engine, program, options):
    rates = {"logdisk": [], "boto3": [], "rclone": []}
    total, peaks, attaching = total_bytes(volume), [], []
    for number in range(max(options.rounds, 1)):
        os.sync()
        seconds, peak, idle = ship(volume, engine, program, f"ship{number}")
        rates["logdisk"].append(total / seconds)
        peaks.append(peak)
        attaching.append(idle)
        os.sync()
        begin = time.monotonic()
        with transfer_manager(engine) as manager:
            waiting = [manager.upload(str(file), "bench", f"boto{number}/{file.name}")
                       for file in segment_files(volume)]
            for one in waiting:
                one.result()
        rates["boto3"].append(total / (time.monotonic() - begin))
        os.sync()
        rates["rclone"].append(total / rclone(engine, volume / "segments",
                                              f"engine:bench/rclone{number}"))
    rival = max(("boto3", "rclone"), key=lambda name: median(rates[name]))
    ratio = median(rates["logdisk"]) / median(rates[rival])
    return {**rates, "rival": rival, "ratio": ratio, "ok": ratio >= PUT_RATIO_MIN,
            "mb_per_second": median(rates["logdisk"]) / 1e6, "attach_seconds": attaching,
            "peak_mib": max(peaks), "memory_ok": max(peaks) <= MEMORY_MIB_MAX}


def get_speed(place, volume, engine, program, options):
    """Replay of everything into a file; the rival gets the same objects into files."""
    rates = {"logdisk": [], "boto3": [], "rclone": []}
    total = total_bytes(volume)
    output, folder = place / "replayed", place / "fetched"
    for _ in range(max(options.rounds, 1)):
        output.unlink(missing_ok=True)
        os.sync()
        seconds, _ = timed_with_peak([
            program, "replay", "s3://bench/ship0", "--at", "now", "--output", output,
            *access(engine)])
        rates["logdisk"].append(total / seconds)
        for name, fetch in (("boto3", fetch_boto3), ("rclone", fetch_rclone)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            os.sync()
            begin = time.monotonic()
            fetch(engine, volume, folder)
            rates[name].append(total / (time.monotonic() - begin))
    if subprocess.run(["cmp", output, volume / "image.raw"]).returncode != 0:
        raise RuntimeError("replay from object storage gives other bytes than the volume")
    output.unlink()
    shutil.rmtree(folder)
    rival = max(("boto3", "rclone"), key=lambda name: median(rates[name]))
    ratio = median(rates["logdisk"]) / median(rates[rival])
    return {**rates, "rival": rival, "ratio": ratio, "ok": ratio >= GET_RATIO_MIN,
            "mb_per_second": median(rates["logdisk"]) / 1e6}


def fetch_boto3(engine, volume, folder):
    with transfer_manager(engine) as manager:
        waiting = [manager.download("bench", f"boto0/{file.name}", str(folder / file.name))
                   for file in segment_files(volume)]
        for one in waiting:
            one.result()


def fetch_rclone(engine, volume, folder):
    rclone(engine, "engine:bench/boto0", folder)


def signing(place, volume, engine, program):
    """The share of shipping's processor time that is in signing, by sampling.

    Over plain HTTP the digests of bodies are part of a signature; over TLS there are none. The
    digest of the whole object is no part of it: it is made in any case.
    """
    data = place / "perf.data"
    run(program, "remote", "add", volume, "signed", "s3://bench/signed", *access(engine), "--when",
        "always", "--object-size", f"{PART_MIB}M")
    subprocess.run(["perf", "record", "--quiet", "-F", "997", "-g", "-o", data, program, "ship",
                    volume, "signed", "--now", "--wait"], check=True, capture_output=True)
    run(program, "remote", "remove", volume, "signed")
    text = subprocess.run(["perf", "script", "-i", data, "-F", "comm,ip,sym"], check=True,
                          capture_output=True, text=True).stdout
    data.unlink()
    samples = [one for one in text.split("\n\n") if one.strip()]
    hashing = [one for one in samples if "sha256_block" in one]
    if not any("TailHasher" in one for one in hashing):
        raise RuntimeError("the samples of perf do not tell who makes digests")
    headers = sum("ObjectStorage6Signer" in one for one in samples) / len(samples)
    bodies = sum("TailHasher" not in one and "ObjectStorage6Signer" not in one
                 for one in hashing) / len(samples)
    return {"headers": headers, "bodies": bodies, "samples": len(samples),
            "ok": headers + bodies < SIGNING_SHARE_MAX}


def first_read(place, engine, program, options):
    """Seconds until the first bytes of `mount s3://… --at` are there, 50 ms away."""
    proxy = Delay(engine.port)
    mount = place / "far"
    mount.mkdir(exist_ok=True)
    seconds = []
    try:
        for _ in range(max(options.rounds, 1)):
            begin = time.monotonic()
            run(program, "mount", "s3://bench/ship0", mount, "--at", "now",
                *access(engine, proxy.port))
            try:
                with open(mount / "disk.img", "rb") as file:
                    file.read(4096)
                seconds.append(time.monotonic() - begin)
            finally:
                run(program, "unmount", mount)
    finally:
        proxy.stop()
    return {"seconds": seconds, "ok": median(seconds) < FIRST_READ_SECONDS_MAX}
