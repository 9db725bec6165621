"""FUSE over io_uring: a parameter of the kernel's module fuse, off by default.

A mount that is made while it is on may use it. logdisk does; F and Q do not know it.
"""
import contextlib
import pathlib

PARAMETER = pathlib.Path("/sys/module/fuse/parameters/enable_uring")


def is_on():
    try:
        return PARAMETER.read_text().strip() == "Y"
    except OSError:
        return False


@contextlib.contextmanager
def switched(wanted):
    """Sets the parameter where there is one, and puts it back; gives whether it is on."""
    before = is_on()
    if PARAMETER.exists():
        PARAMETER.write_text("Y" if wanted else "N")
    try:
        yield is_on()
    finally:
        if PARAMETER.exists():
            PARAMETER.write_text("Y" if before else "N")
