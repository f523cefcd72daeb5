"""``python -m vln_clip.mattersim``: somebody's program with our module in place of the simulator."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import MatterSim
sim = MatterSim.Simulator()
sim.setNavGraphPath(sys.argv[1])
sim.setRenderingEnabled(False)
sim.initialize()
sim.newEpisode(["alpha"], ["a2"], [0.0], [0.0])
print(__name__, sim.getState()[0].location.viewpointId, len(sys.argv), flush=True)
"""


def run(*words, cwd=None):
    command = [sys.executable, "-m", "vln_clip.mattersim", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_program_runs_with_this_module_in_place_of_the_simulator(graphs, tmp_path):
    (tmp_path / "helper.py").write_text("")
    script = tmp_path / "agent.py"
    script.write_text("import helper\n" + PROGRAM)
    done = run(script, graphs)
    assert (done.returncode, done.stdout) == (0, "__main__ a2 2\n"), done.stderr
    done = run("-m", "agent", graphs, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "__main__ a2 2\n"), done.stderr


def test_program_keeps_its_own_errors_and_exit_status(tmp_path):
    script = tmp_path / "agent.py"
    script.write_text("import MatterSim\nraise KeyError('mine')\n")
    done = run(script)
    assert done.returncode == 1
    assert "KeyError: 'mine'" in done.stderr
    script.write_text("raise SystemExit(7)")
    assert run(script).returncode == 7


def test_missing_program(tmp_path):
    done = run(tmp_path / "none.py")
    assert done.returncode == 2
    assert done.stderr == f"error: SCRIPT must be a Python file, got {tmp_path / 'none.py'}, which does not exist\n"


@pytest.mark.parametrize("word", ["-m", "no_such_module"])
def test_missing_module(word):
    done = run("-m", *([] if word == "-m" else [word]))
    assert done.returncode == 2
    assert done.stderr.startswith("error: -m must be followed by a module that Python finds from here, got ")


def test_processes_that_the_program_starts_have_the_module_too(tmp_path):
    script = tmp_path / "agent.py"
    script.write_text(
        "import subprocess, sys\n"
        "code = 'import MatterSim; print(MatterSim.Simulator.__module__)'\n"
        "raise SystemExit(subprocess.run([sys.executable, '-c', code]).returncode)\n"
    )
    done = run(script)
    assert (done.returncode, done.stdout) == (0, "vln_clip.envs.mattersim.simulator\n"), done.stderr
