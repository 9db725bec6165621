"""Programs and modules from PyPI that tools/setup --bench puts below .build."""
import pathlib
import sys

_BUILD = pathlib.Path(__file__).resolve().parent.parent.parent / ".build"
PACKAGES = {name: _BUILD / name for name in ("seaweedfs", "boto3")}


def import_from(name):
    """Makes the modules of one of PACKAGES importable; whether it is there."""
    for folder in PACKAGES[name].glob("lib/python3*/site-packages"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        return True
    return False
