"""Runs a program that imports ``MatterSim`` without that module: ``python -m vln_clip.mattersim SCRIPT [ARGS…]``.

Everything after SCRIPT (or after ``-m MODULE``) is the program's own.
"""

import runpy
import sys
from pathlib import Path

from vln_clip import log
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
    sys.modules[MODULE] = mattersim
    if words[0] == "-m":
        if len(words) < 2:
            raise InputError(f"-m must be followed by the name of a module\n{USAGE}")
        sys.argv = words[1:]
        sys.path.insert(0, "")
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    script = Path(words[0])
    if not script.is_file():
        raise InputError(f"SCRIPT must be a Python file, got {script}, which does not exist")
    sys.argv = words
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name="__main__")


def cli() -> None:
    """Run with our own errors told in one sentence; those of the program keep their traceback."""
    words = sys.argv[1:]
    if words and (words[0] == "-m" or Path(words[0]).is_file()):
        main()
    else:
        log.program(main)


if __name__ == "__main__":
    cli()
