"""The layout of design.md: layers, mounted folders, packaging, programs, file sizes."""

import ast
import importlib
import runpy
from pathlib import Path

import pytest

from vln_clip.__main__ import PROGRAMS as VERBS

ROOT = Path(__file__).resolve().parents[1]
MOUNTED = ("envs", "agents", "tasks", "connectivity")
# Programs may import anything; the other lines are their shared wiring.
PROGRAMS = {"train", "evaluate", "submit", "extract", "extract_images", "data", "mattersim", "scenes", "__main__"}
PROGRAMS |= {"datafolder", "setting", "envdrop", "job", "results", "scoring", "context", "breakdown"}
PROGRAMS |= {"validation", "glance", "curves_figure", "replay", "recipe", "choosing", "read_tables"}
PROGRAMS |= {
    "searching",
    "searched",
    "rescoring",
    "visualize",
    "plot",
    "viewer",
    "vqa",
    "caption",
    "pretrain",
    "image_grids",
    "demo_pictures",
    "trained",
    "trained_tower",
    "end_to_end",
    "start",
    "explain",
    "verbs",
}
MAY_IMPORT = {
    "connectivity": {"core"},
    "tasks": {"core"},
    "envs": {"core", "tasks", "connectivity"},
    "agents": {"core"},
    "core": {"core"},
}
SOURCES = ("vln_clip", *MOUNTED)


def python_files(folders):
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            between = [ROOT.joinpath(*path.relative_to(ROOT).parts[: i + 1]) for i in range(len(path.parts))]
            if not any(step.is_symlink() for step in between):
                found.append(path)
    return found


FILES = python_files(SOURCES)


def layer(module):
    """Layer of "vln_clip.x.y": a mounted folder, "program" or "core"."""
    parts = [*module.split("."), ""]
    if parts[1] in MOUNTED:
        return parts[1]
    return "program" if parts[1] in PROGRAMS or parts[-2] == "__main__" else "core"


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "vln_clip" else ("vln_clip", *parts))


def imports(path):
    """Yield every module that a file imports; ``from package import name`` also as ``package.name``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            if node.module == "vln_clip":
                yield from (f"vln_clip.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    own = layer(module_name(path))
    for name in imports(path):
        assert name.split(".")[0] not in MOUNTED, f"{path}: write vln_clip.{name}, not {name}"
        if own != "program" and name.startswith("vln_clip."):
            if path.parent.name == "features" and path.name == "__init__.py" and name.endswith("__main__"):
                continue  # its lazy `cli`, the entry of the verb
            assert layer(name) in MAY_IMPORT[own] | {own}, f"{path}: {own} must not import {name}"


@pytest.mark.parametrize("name", MOUNTED)
def test_folder_is_mounted_inside_the_package(name):
    link = ROOT / "vln_clip" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name
    assert not Path(link.readlink()).is_absolute()


def test_setup_lists_every_package(monkeypatch):
    given = {}
    monkeypatch.setattr("setuptools.setup", lambda **options: given.update(options))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    wanted = {module_name(path.parent / "__init__").removesuffix(".__init__") for path in FILES}
    assert sorted(given["packages"]) == sorted(wanted)
    for package in wanted:
        assert any(package == name or package.startswith(f"{name}.") for name in given["package_dir"])


def test_every_folder_with_code_is_a_package():
    lacking = {path.parent for path in FILES if not (path.parent / "__init__.py").is_file()}
    assert not lacking


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_program_with_a_command_line(verb):
    program = importlib.import_module(f"vln_clip.{verb}")
    assert callable(program.cli)
    assert program.__doc__


@pytest.mark.parametrize("path", python_files([*SOURCES, "tests", "scripts"]), ids=lambda path: path.name)
def test_no_file_is_over_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_no_committed_path_of_a_machine():
    machine = "/" + "work/"
    for path in python_files([*SOURCES, "tests", "scripts"]):
        assert machine not in path.read_text(), path
