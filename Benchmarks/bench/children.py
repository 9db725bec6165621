"""Commands that are measured as a whole."""
import pathlib
import re
import subprocess
import threading
import time


def timed_with_peak(command):
    """Seconds, and the peak memory in MiB, of a command.

    The kernel's own account of a child (ru_maxrss) begins with what this process had before it.
    """
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    done = threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.01):
            try:
                text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                return
            if text.startswith("Name:\t" + pathlib.Path(command[0]).name[:15]):
                found = re.search(r"VmHWM:\s+(\d+) kB", text)
                peak = max(peak, int(found.group(1)) / 1024 if found else 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    seconds = time.monotonic() - begin
    done.set()
    watcher.join()
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]}: {errors.decode().strip()}")
    return seconds, peak
