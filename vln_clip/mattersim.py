"""Runs a program that imports ``MatterSim`` without that module: ``python -m vln_clip.mattersim SCRIPT [ARGS…]``.

Everything after SCRIPT (or after ``-m MODULE``) is the program's own.
"""

import importlib.util
import os
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from vln_clip.envs import mattersim
from vln_clip.errors import InputError

MODULE = "MatterSim"
USAGE = f"""usage: python -m vln_clip.mattersim SCRIPT [ARGS…]
       python -m vln_clip.mattersim -m MODULE [ARGS…]

Runs a Python program with vln_clip's simulator in the place of the module {MODULE}."""


def main(argv: list[str] | None = None) -> None:
    """Run the program named on the command line as ``__main__``."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if words else 2)
    run = find_program(words)
    sys.modules[MODULE] = mattersim
    with tempfile.TemporaryDirectory() as folder:  # for the Python processes that the program starts
        (Path(folder) / f"{MODULE}.py").write_text("from vln_clip.envs.mattersim import *\n")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        run()


def find_program(words: list[str]) -> Callable[[], object]:
    """Make ``sys.argv`` and ``sys.path`` those of the program that ``words`` name, and return what runs it.

    Raises:
        InputError: there is no such file or module.
    """
    if words[0] == "-m":
        sys.path.insert(0, "")
        if len(words) < 2 or not _is_module(words[1]):
            raise InputError(
                f"-m must be followed by a module that Python finds from here, got {' '.join(words[1:2])!r}"
            )
        sys.argv = words[1:]
        return lambda: runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    script = Path(words[0])
    if not script.is_file():
        found = "is a folder" if script.is_dir() else "does not exist"
        raise InputError(f"SCRIPT must be a Python file, got {script}, which {found}")
    sys.argv = words
    sys.path.insert(0, str(script.resolve().parent))
    return lambda: runpy.run_path(str(script), run_name="__main__")


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # of a package above it
        return False


def cli() -> None:
    """Run with our own errors told in one sentence; those of the program keep their traceback."""
    try:
        main()
    except InputError as error:
        if MODULE in sys.modules:  # the program was running: it is the program's error
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    cli()
