"""Results as tables. A target counts as reached within 5 % of it: the noise of such runs."""
from .extras import (ALLOCATIONS_MAX, IDLE_CPU_SHARE_MAX, MEMORY_MIB_MAX, OPEN_SECONDS_MAX,
                     THINNING_RATIO_MIN)
from .loads import LOADS
from .middle import median
from .past import (FIRST_READ_SECONDS_MAX, OPEN_VIEWS, PRUNE_RATIO_MIN, READ_RATIO_MIN, RECORDS,
                   VIEW_MIB_MAX, WRITE_RATIO_MIN)
from . import objects, shipping, spread

NOISE = 0.05


def heading(machine):
    text = (f"{machine['processors']} x {machine['model']}, Linux {machine['kernel']}, "
            f"{machine['disk']}, load {machine['load']:.2f}")
    text += "\nlogdisk " + (
        "over io_uring (fuse.enable_uring=1, set for this run; F and Q do not know it)"
        if machine["uring"] else "over /dev/fuse (fuse.enable_uring=0)")
    if machine["load"] > 0.5:
        text += "\nThe machine is not quiet: results will scatter."
    return text


def middle(results, key):
    values = [result[key] for result in results if key in result]
    return median(values) if values else None


def verdict(ratio, target):
    return "ok" if ratio >= target * (1 - NOISE) else "SHORT"


def render(results):
    """The whole report, and whether every target is reached."""
    parts, verdicts = [], []
    if results["table"]:
        parts += [ratios(results["table"], verdicts), latencies(results["table"]),
                  costs(results["table"])]
    parts.append(extras(results, verdicts))
    text = "\n\n".join(part for part in parts if part)
    return "\n" + text, "SHORT" not in verdicts


def ratios(table, verdicts):
    lines = [("load", "F", "logdisk", "Q", "vs F", "target", "", "vs Q", "target", "")]
    for load in LOADS:
        if load.name not in table:
            continue
        speeds = {name: middle(runs, "iops") for name, runs in table[load.name].items()}
        row = [load.title] + [f"{speeds[name]:.0f}/s" if name in speeds else "-"
                              for name in ("F", "logdisk", "Q")]
        for name, target in (("F", load.floor_target), ("Q", load.peer_target)):
            if name in speeds:
                ratio = speeds["logdisk"] / speeds[name]
                verdicts.append(verdict(ratio, target))
                row += [f"{ratio:.2f}", f"{target:g}", verdicts[-1]]
            else:
                row += ["-", f"{target:g}", "not run"]
        lines.append(tuple(row))
    return aligned("Speed, medians", lines)


def latencies(table):
    lines = [("load", "subject", "p50", "p99", "p99.9", "max")]
    for load in LOADS:
        if load.latency and load.name in table:
            what = "of fdatasync" if load.latency == "sync" else "of write"
            for name in ("F", "logdisk", "Q"):
                if name in table[load.name]:
                    runs = table[load.name][name]
                    values = [middle(runs, key) for key in ("p50", "p99", "p99.9", "max")]
                    lines.append((f"{load.title}, {what}", name,
                                  *("-" if v is None else f"{v:.0f}" for v in values)))
    return aligned("Latency in microseconds, medians of the rounds", lines) if lines[1:] else ""


def costs(table):
    lines = [("load", "subject", "CPU s/GiB", "disk bytes per byte")]
    for load in LOADS:
        for name in ("F", "logdisk", "Q"):
            if load.name in table and name in table[load.name]:
                runs = table[load.name][name]
                amplification = middle(runs, "disk_bytes_per_byte")
                lines.append((load.title, name, f"{middle(runs, 'cpu_seconds_per_gib'):.2f}",
                              f"{amplification:.2f}" if load.direction == "write" else "-"))
    return aligned("Cost, with the background work (disk bytes: of the whole machine)", lines)


def extras(results, verdicts):
    lines = [("what", "measured", "target", "")]

    def add(name, what, measured, target):
        if name in results:
            verdicts.append("ok" if results[name]["ok"] else "SHORT")
            lines.append((what, measured(results[name]), target, verdicts[-1]))

    add("memory", "peak memory after 10 GiB of writes, without the ring",
        lambda r: f"{r['peak_mib'] - r['ring_mib']:.0f} MiB", f"<= {MEMORY_MIB_MAX} MiB")
    add("recovery", "open after kill -9 under load (slowest)",
        lambda r: f"{max(r['seconds']):.2f} s", f"< {OPEN_SECONDS_MAX} s")
    for name, ratio, target in replays(results.get("replay")):
        verdicts.append(verdict(ratio, target))
        lines.append((name, f"{ratio:.2f}", f">= {target}", verdicts[-1]))
    add("allocations", "heap allocations per 4 KiB write, read",
        lambda r: f"{r['write']:.4f}, {r['read']:.4f}", f"< {ALLOCATIONS_MAX}")
    thinning = results.get("replay", {}).get("thinning")
    if thinning:
        verdicts.append("ok" if thinning["ok"] else "SHORT")
        lines.append(("thinning to the newest records, to reading and checking them",
                      f"{thinning['ratio']:.2f}", f">= {THINNING_RATIO_MIN}", verdicts[-1]))
    for name, measured, target, is_good in (pasts(results.get("past"))
                                            + shipments(results.get("shipping"))
                                            + stores(results.get("objects"))
                                            + spreads(results.get("spread"))):
        verdicts.append("ok" if is_good else "SHORT")
        lines.append((name, measured, target, verdicts[-1]))
    add("idle", "idle minute: bytes to the disk, CPU",
        lambda r: f"{r['disk_bytes']}, {r['cpu_share']:.3%}", f"0, < {IDLE_CPU_SHARE_MAX:.1%}")
    return aligned("Besides", lines) if lines[1:] else ""


def replays(result):
    """(what, ratio of speeds, target) of each comparison."""
    if result is None:
        return []
    return [("logdisk replay to cp, each block written once", result["command"]["ratio"], 1)] + [
        (f"replay to {run['rival']}, {run['name']}", run["ratio"],
         5 if run["rival"] == "serial" else 1) for run in result["engine"]]


def pasts(result):
    """(what, measured, target, verdict) of each number about past states."""
    if result is None:
        return []
    first, reads, memory, views, prune = (
        result[name] for name in ("first_read", "reads", "memory", "views", "prune"))
    return [
        (f"first read of mount --at, {RECORDS:,} records after the snapshot",
         f"{median(first['seconds']):.2f} s", f"< {FIRST_READ_SECONDS_MAX} s", first["ok"]),
        ("4 KiB random read QD16 of a past mount to the live one", f"{reads['ratio']:.2f}",
         f">= {READ_RATIO_MIN}", reads["ok"]),
        ("peak memory of a past mount", f"{memory['peak_mib']:.0f} MiB",
         f"<= {VIEW_MIB_MAX} MiB", memory["ok"]),
        (f"4 KiB random write QD16 with {OPEN_VIEWS} open past states to without",
         f"{views['ratio']:.2f}", f">= {WRITE_RATIO_MIN}", views["ok"]),
        ("4 KiB random write QD16 during a prune to without"
         + ("" if prune["whole"] else " (it ended earlier)"),
         f"{prune['ratio']:.2f}", f">= {PRUNE_RATIO_MIN}", prune["ok"])]


def shipments(result):
    """(what, measured, target, verdict) of each number about the log server."""
    if result is None:
        return []
    speed, writers, link, first, write = (
        result[name] for name in ("speed", "writers", "link", "first_read", "write"))
    return [
        ("shipping over TLS to curl -T of the same bytes", f"{speed['ratio']:.2f}",
         f">= {shipping.CURL_RATIO_MIN}", speed["ok"]),
        ("shipping over TLS", f"{speed['mb_per_second']:.0f} MB/s",
         f">= {shipping.SHIP_MB_MIN} MB/s", speed["fast"]),
        ("shipping sealed to shipping plain", f"{speed['sealed_ratio']:.2f}",
         f">= {shipping.SEALED_RATIO_MIN}", speed["sealed_ok"]),
        (f"{shipping.WRITERS} writers at once to one after the other", f"{writers['ratio']:.2f}",
         f">= {shipping.WRITERS_RATIO_MIN}", writers["ok"]),
        ("peak memory of the server then", f"{writers['peak_mib']:.0f} MiB",
         f"<= {shipping.SERVER_MIB_MAX} MiB", writers["memory_ok"]),
        (f"replay from a server over {shipping.LINK_MBIT} Mbit/s to the link",
         f"{link['ratio']:.2f}", f">= {shipping.LINK_RATIO_MIN}", link["ok"]),
        (f"first read of mount --at URL, {shipping.ROUND_TRIP_SECONDS * 1000:.0f} ms away",
         f"{median(first['seconds']):.2f} s", f"< {shipping.FIRST_READ_SECONDS_MAX} s",
         first["ok"]),
        ("4 KiB random write QD16 with a remote to without", f"{write['ratio']:.2f}",
         f">= {shipping.WRITE_RATIO_MIN}", write["ok"])]


def stores(result):
    """(what, measured, target, verdict) of each number about object storage."""
    rows = []
    for name, one in (result or {}).items():
        put, get, first = one["put"], one["get"], one["first_read"]
        rows += [
            (f"{name}: shipping segments of {objects.PART_MIB} MiB to {put['rival']}",
             f"{put['ratio']:.2f}", f">= {objects.PUT_RATIO_MIN}", put["ok"]),
            (f"{name}: peak memory of that", f"{put['peak_mib']:.0f} MiB",
             f"<= {objects.MEMORY_MIB_MAX} MiB", put["memory_ok"]),
            (f"{name}: share of its processor time for signing, and for digests of bodies over HTTP",
             f"{one['signing']['headers']:.1%}, {one['signing']['bodies']:.1%}",
             f"< {objects.SIGNING_SHARE_MAX:.0%}", one["signing"]["ok"]),
            (f"{name}: replay to {get['rival']} with {objects.CONNECTIONS} connections",
             f"{get['ratio']:.2f}", f">= {objects.GET_RATIO_MIN}", get["ok"]),
            (f"{name}: first read of mount s3://… --at, 50 ms away",
             f"{median(first['seconds']):.2f} s", f"< {objects.FIRST_READ_SECONDS_MAX} s",
             first["ok"])]
    return rows


def spreads(result):
    """(what, measured, target, verdict) of each number about spreading."""
    if result is None:
        return []
    rates, copies, memory, plan, scan = (
        result[name] for name in ("rates", "copy", "memory", "plan", "scan"))
    large, small = copies["large"], copies["small"]
    return [
        (f"spread run to {spread.DEVICES} devices with limits to the sum of these",
         f"{rates['ratio']:.2f}", f">= {spread.RATE_RATIO_MIN}", rates["ok"]),
        (f"spread run of {large['bytes'] >> 20} MiB to cp and sync to one folder",
         f"{large['ratio']:.2f}", f">= {spread.COPY_RATIO_MIN}", large["ok"]),
        (f"spread run of {small['files']:,} small files to cp and sync",
         f"{small['ratio']:.2f}", f">= {spread.COPY_RATIO_MIN}", small["ok"]),
        (f"peak memory of spread run and restore, {memory['files']:,} files",
         f"{memory['run_mib']:.0f}, {memory['restore_mib']:.0f} MiB",
         f"<= {memory['limit_mib']:.0f} MiB", memory["ok"]),
        (f"spread plan of {plan['files']:,} files to fpart, time", f"{plan['ratio']:.2f}",
         f"<= {spread.PLAN_RATIO_MAX}", plan["ok"]),
        ("peak memory of that", f"{plan['peak_mib']:.0f} MiB", f"<= {plan['limit_mib']:.0f} MiB",
         plan["memory_ok"]),
        (f"scanning {scan['files']:,} files to find, time", f"{scan['ratio']:.2f}",
         f"<= {spread.SCAN_RATIO_MAX}", scan["ok"])]


def aligned(title, lines):
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
            for line in lines]
    rows.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([title, ""] + rows)
