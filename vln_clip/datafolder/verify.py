"""Verifies what a data folder holds: hashes, structure, counts, graphs, pose traces."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from vln_clip.connectivity.graphs import SUFFIX, ScanGraph, load_graph, read_scans
from vln_clip.datafolder import structure
from vln_clip.datafolder.routes import fault_lines, route_faults
from vln_clip.datafolder.structure import counted
from vln_clip.encoders.weights import file_sha256
from vln_clip.errors import InputError
from vln_clip.features.formats import SUFFIXES
from vln_clip.sources.graphs import CONNECTIVITY_SHA256, GRAPH_SHA256, list_sha256
from vln_clip.sources.table import CONNECTIVITY, FEATURES, GRAPH, GUIDE, SOURCES, SPLIT
from vln_clip.tasks.datasets import DATASETS, PUBLIC_SPLITS, Dataset, known_splits, read_split
from vln_clip.tasks.pose_traces import GUIDE as GUIDE_TRACE
from vln_clip.tasks.pose_traces import pose_trace_file
from vln_clip.tasks.r2r_files import KNOWN_VERSION, OTHER_VERSION
from vln_clip.tasks.split import OWN_VERSION, Split

SHOWN = 5  # problems of one kind


@dataclass
class Report:
    """Lines told so far; problems are counted."""

    num_problems: int = 0
    num_files: int = 0
    told: set[str] = field(default_factory=set)

    def sound(self, name: str, text: str) -> None:
        """Tell what a file holds."""
        self.num_files += 1
        print(f"{name}: {text}")

    def note(self, text: str) -> None:
        """Tell something that is odd but allowed."""
        print(f"  note: {text}")

    def problems(self, texts: Iterable[str], total: int) -> None:
        """Tell the first of several problems of one kind and count them all."""
        self.num_problems += total
        for text in islice(texts, SHOWN):
            print(f"  problem: {text}")
        if total > SHOWN:
            print(f"  problem: and {total - SHOWN:,} more of this kind")

    def problem(self, text: str) -> None:
        """Tell one problem."""
        self.problems([text], 1)


def verify(datasets: Sequence[Dataset], data: Path, pose_traces: Sequence[str] = ()) -> None:
    """Check every known file of a data folder and print what was found.

    Args:
        datasets: whose files to look at.
        data: their folder.
        pose_traces: splits of RxR of which every instruction must have one.

    Raises:
        InputError: something is wrong, each fault having been printed; or there is nothing to check.
    """
    report = Report()
    graphs = _graphs(data / CONNECTIVITY, report)
    for dataset in datasets:
        before = report.num_files
        for name in known_splits(dataset, data):
            if dataset.file(name, data).is_file():
                _split(dataset, name, data, graphs, pose_traces, report)
        _other_files(dataset, data, report)
        if report.num_files == before and not report.num_problems:
            get = f"vln-clip data get --dataset {dataset.name}"
            raise InputError(f"{data} must hold files of {dataset.name}, got none; {get} fetches them or says how")
    for file in sorted((data / FEATURES).glob("*")):
        if file.name.endswith(SUFFIXES):
            command = f"vln-clip features verify {file} --dataset {datasets[0].name}"
            print(f"{FEATURES}{file.name}: {file.stat().st_size:,} bytes; {command} says whether it is complete")
    for name in pose_traces:
        if f"pose traces {name}" not in report.told:
            report.problem(f"--pose-traces {name}: there is no guide file of that split of RxR in {data}")
    if report.num_problems:
        raise InputError(f"{data} must hold sound files, got {counted(report.num_problems, 'problem')} (see above)")
    print(f"nothing is wrong with {report.num_files} files of {', '.join(dataset.name for dataset in datasets)}")


def at_hand(data: Path) -> list[Dataset]:
    """Return the data sets of which a data folder has a split; the generated ones are told apart by name only."""
    real = [dataset for dataset in DATASETS.values() if not dataset.generated]
    found = [d for d in real if any(d.file(name, data).is_file() for name in (*PUBLIC_SPLITS, *d.tests))]
    if not found:
        raise InputError(f"{data} must hold a data set, got none; vln-clip data list says what belongs there")
    return found


def _graphs(folder: Path, report: Report) -> dict[str, ScanGraph]:
    """Check the connectivity folder; return the sound graphs."""
    files = sorted(folder.glob(f"*{SUFFIX}"))
    graphs: dict[str, ScanGraph] = {}
    problems = []
    for file in files:
        try:
            scan = file.name.removesuffix(SUFFIX)
            graphs[scan] = load_graph(file, scan)
        except InputError as error:
            problems.append(str(error))
    hashes = {file.name: file_sha256(file) for file in (*files, folder / "scans.txt") if file.is_file()}
    if not files:
        version = "no graphs"
    elif list_sha256(hashes) == CONNECTIVITY_SHA256:
        version = "known version"
    else:
        public = hashes.keys() & GRAPH_SHA256.keys()
        same = sum(hashes[name] == GRAPH_SHA256[name] for name in public)
        version = f"no known version ({same} of the {len(GRAPH_SHA256)} public files)"
    num_viewpoints = sum(len(graph.viewpoint_ids) for graph in graphs.values())
    report.sound(CONNECTIVITY, f"{counted(len(files), 'scan')}, {num_viewpoints:,} viewpoints, {version}")
    report.num_files += len(hashes) - 1
    graph_names = GRAPH_SHA256.keys() & {file.name for file in files}
    changed = sorted(name for name in graph_names if hashes[name] != GRAPH_SHA256[name])
    if changed:
        report.note(f"{len(changed)} files have a public name and other content: {', '.join(changed[:SHOWN])}")
    report.problems(problems, len(problems))
    _scan_list(folder, [file.name.removesuffix(SUFFIX) for file in files], report)
    return graphs


def _scan_list(folder: Path, scans: Sequence[str], report: Report) -> None:
    """Check that scans.txt and the graphs name the same scans."""
    try:
        listed = read_scans(folder)
    except InputError as error:
        report.problem(str(error))
        return
    lacking = sorted(set(listed) - set(scans))
    if lacking:
        names = ", ".join(lacking[:SHOWN])
        report.problem(f"{folder / 'scans.txt'} lists {counted(len(lacking), 'scan')} without a file, first {names}")
    unlisted = sorted(set(scans) - set(listed))
    if unlisted:
        report.note(f"{len(unlisted)} graphs are not in scans.txt: {', '.join(unlisted[:SHOWN])}")


def _split(
    dataset: Dataset, name: str, data: Path, graphs: dict[str, ScanGraph], pose_traces: Sequence[str], report: Report
) -> None:
    """Check one split with the graphs of its scans."""
    file = dataset.file(name, data)
    place = str(file.relative_to(data))
    try:
        split = read_split(dataset.name, name, data, keep_empty=True)
    except InputError as error:
        report.sound(place, "WRONG")
        report.problem(str(error))
        return
    report.sound(place, f"{_counts(split)}, {_version(split)}")
    source = SOURCES.get(str(Path(dataset.folder) / file.name))
    num_paths = len({episode.path_id for episode in split.episodes})
    if source and source.num_paths not in (0, num_paths) and split.version != KNOWN_VERSION and not dataset.generated:
        report.note(f"public versions of {source.name} have {source.num_paths:,} paths")
    lacking = [scan for scan in split.scans if scan not in graphs]
    if lacking:
        names = ", ".join(lacking[:SHOWN])
        report.problem(f"{len(lacking)} of its {len(split.scans)} scans have no sound graph, first {names}")
    if split.continuous is None:
        faults = route_faults(split, graphs)
        lines: Iterable[str] = (f"{file}: path_id {path_id}: {fault}" for path_id, fault in faults.items())
        total = len(faults)
        if faults and dataset.folder == "RxR":
            total = sum(episode.path_id in faults for episode in split.episodes)
            lines = fault_lines(split, faults)
        report.problems(lines, total)
    if dataset.folder == "RxR":
        _pose_traces(split, name, data, name in pose_traces, report)


def _counts(split: Split) -> str:
    """Return paths, instructions by language, and scans."""
    num_paths = len({episode.path_id for episode in split.episodes})
    languages = Counter(episode.language for episode in split.episodes)
    told = structure.tell_languages(languages)
    goals = ", goals hidden" if split.goal_hidden else ""
    scans = counted(len(split.scans), "scan")
    return f"{num_paths:,} paths, {len(split.episodes):,} instructions ({told}), {scans}{goals}"


def _version(split: Split) -> str:
    """Name a split's version, with its hash where it is not the known one."""
    if split.version == KNOWN_VERSION:
        return "known version"
    if split.version == OTHER_VERSION:
        return f"the other public version, sha256 {split.sha256}"
    what = "no hash is known to compare with" if split.version == OWN_VERSION else "no known version"
    return f"{what}: sha256 {split.sha256}"


def _pose_traces(split: Split, name: str, data: Path, must_be: bool, report: Report) -> None:
    """Tell which instructions of a split lack their guide's pose trace, where the folder is there or asked for."""
    files = [(e.instr_id, pose_trace_file(data, name, GUIDE_TRACE, e.instr_id)) for e in split.episodes]
    report.told.add(f"pose traces {name}")
    if not must_be and not (files and files[0][1].parent.is_dir()):
        return
    missing = [(instr_id, file) for instr_id, file in files if not file.is_file()]
    lacking = [f"instruction {instr_id} has no pose trace: {file} is missing" for instr_id, file in missing]
    print(f"  pose traces: {len(files) - len(lacking):,} of {len(files):,} instructions have theirs")
    if must_be:
        report.problems(lacking, len(lacking))
    elif lacking:
        report.note(f"{lacking[0]} ({len(lacking):,} such; --pose-traces {name} calls for all)")


def _other_files(dataset: Dataset, data: Path, report: Report) -> None:
    """Check vocabularies, unlabelled paths, people's walks and archives of a data set's folder."""
    for source in SOURCES.values():
        if source.folder != f"{dataset.folder}/" or source.kind in (GRAPH, GUIDE) or source.num_paths:
            continue
        file = structure.find_present(source, data)
        if file is None:
            continue
        try:
            finding = structure.check(file, source)
        except InputError as error:
            report.sound(source.name, "WRONG")
            report.problem(str(error))
        else:
            report.sound(str(file.relative_to(data)), finding.describe())
            if finding.doubt and source.kind != SPLIT and not dataset.generated:
                report.note(f"it is not the public file: {finding.doubt}")
