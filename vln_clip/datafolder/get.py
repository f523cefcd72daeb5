"""Fetches public files into a data folder. A file appears there only when it is whole and what it should be."""

import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from vln_clip.datafolder import structure
from vln_clip.errors import InputError, unknown_name
from vln_clip.features.locate import split_name
from vln_clip.log import logger, progress
from vln_clip.sources.download import UnreachableError, download
from vln_clip.sources.graphs import CONNECTIVITY_SHA256
from vln_clip.sources.overrides import unknown_source
from vln_clip.sources.table import BY_HAND, CONNECTIVITY, FEATURES, GRAPH, Source, in_folder, of_dataset
from vln_clip.tasks.datasets import DATASETS, find_dataset
from vln_clip.tasks.r2r_files import KNOWN_VERSION

INCOMING = ".incoming-"
SMALL_BYTES = 1 << 20  # below there is no bar


def choose(
    sources: dict[str, Source], names: Sequence[str], dataset: str | None, features: str | None, optional: bool
) -> list[Source]:
    """Return what is asked for, each file once.

    Args:
        sources: table of files.
        names: of files, or of folders such as ``R2R/``.
        dataset: its annotations and graphs.
        features: an encoder's name or several, ``A+B``.
        optional: with a data set also what is useful to few.

    Raises:
        InputError: unknown names, and things that cannot be downloaded, with the way to get them.
    """
    wanted = [source for name in names for source in _named(sources, name)]
    if dataset is not None:
        if find_dataset(dataset).generated:
            raise InputError(f"{dataset} is generated here, nothing is fetched: vln-clip data --dataset {dataset}")
        hand = BY_HAND.get(f"{find_dataset(dataset).folder}/")
        if hand is not None:
            raise InputError(f"{hand.name} is never downloaded ({hand.why}); it comes from {hand.address}")
        wanted += [sources[source.name] for source in of_dataset(dataset, optional)]
    if features is not None:
        encoders = {source.encoder: sources[source.name] for source in in_folder(FEATURES)}
        for name in split_name(features):
            if name not in encoders:
                raise InputError(f"{unknown_name('--features', name, encoders)} (vln-clip extract makes others)")
            wanted.append(encoders[name])
    if not wanted:
        raise InputError("get must be told what: names of files, --dataset or --features (vln-clip data lists them)")
    return list({source.name: source for source in wanted}.values())


def _named(sources: dict[str, Source], name: str) -> list[Source]:
    """Return the files that a name means."""
    if name in sources:
        return [sources[name]]
    folder = [source for source in sources.values() if source.folder == name.rstrip("/") + "/"]
    if folder:
        return folder
    for hand in BY_HAND.values():
        if f"{name.rstrip('/')}/".startswith(hand.name):
            raise InputError(f"{hand.name} is never downloaded: {hand.why}; it comes from {hand.address}")
    if name in DATASETS:
        raise InputError(f"name of a file must be like R2R/R2R_train.json, got a data set: --dataset {name}")
    raise unknown_source("name of a file", name, list(BY_HAND))


def get(wanted: Sequence[Source], data: Path, overwrite: bool = False) -> None:
    """Fetch what is missing; one file's fault does not keep the others from being fetched.

    Args:
        wanted: files, with the addresses to be asked.
        data: data folder, made where it is not there.
        overwrite: fetch again what is there.

    Raises:
        InputError: not everything is there now; every reason has been logged before.
    """
    lacking = [source for source in wanted if overwrite or structure.find_present(source, data) is None]
    faults = _tell_kept([source for source in wanted if source not in lacking], data)
    is_new = not data.exists()
    for folder in data.glob(f"{INCOMING}*"):
        logger.warning("%s is of another run: remove it unless that is still fetching", folder)
    try:
        data.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=INCOMING, dir=data) as incoming:
            failed = _fetch_all(lacking, data, Path(incoming))
    except OSError as error:
        raise InputError(f"{data} must be a folder that can be written to, but: {error.strerror or error}") from None
    finally:
        if is_new and data.is_dir() and not any(data.iterdir()):
            data.rmdir()
    num_wrong = len(faults) + len(failed)
    if num_wrong:
        raise InputError(
            f"what is asked for must be there and sound, {num_wrong} of {len(wanted)} files are not (see above)"
        )


def _tell_kept(present: Iterable[Source], data: Path) -> list[Source]:
    """Say what is there already; return what is there but wrong."""
    faults, graphs = [], 0
    for source in present:
        file = structure.find_present(source, data)
        assert file is not None, source.name
        try:
            finding = structure.check(file, source)
        except InputError as error:
            logger.error("wrong: %s; --overwrite fetches it again", error)
            faults.append(source)
            continue
        if source.kind == GRAPH and finding.version == KNOWN_VERSION:
            graphs += 1
        else:
            logger.info("%s: there already, %s", file.relative_to(data), finding.describe())
    if graphs:
        logger.info("%s: %d files there already, known version", CONNECTIVITY, graphs)
    return faults


def _fetch_all(lacking: Sequence[Source], data: Path, incoming: Path) -> list[Source]:
    """Fetch files one by one; return those that could not be had."""
    silent: dict[str, str] = {}  # hosts that do not answer, and why
    terms: dict[str, set[str]] = {}
    unreached, failed, num_graphs = [], [], 0
    with progress() as bar:
        graphs = [source for source in lacking if source.kind == GRAPH]
        task = bar.add_task(CONNECTIVITY, total=len(graphs), status="", visible=bool(graphs))
        for source in sorted(lacking, key=lambda source: source.kind != GRAPH):
            host = urlsplit(source.address).netloc
            try:
                if host in silent:
                    raise UnreachableError(silent[host])
                if source.kind != GRAPH:
                    bar.stop()
                finding = fetch(source, data, incoming)
            except UnreachableError as error:
                silent[host] = str(error)
                unreached.append(source)
            except InputError as error:
                logger.error("refused: %s", error)
                failed.append(source)
            else:
                num_graphs += source.kind == GRAPH
                _tell_fetched(source, finding)
                terms.setdefault(source.folder, set()).add(source.terms)
            bar.update(task, advance=source.kind == GRAPH)
    _tell_totals(num_graphs, terms)
    _tell_unreached(unreached, data, silent)
    return failed + unreached


def _tell_totals(num_graphs: int, terms: Mapping[str, set[str]]) -> None:
    """Say how many graphs were fetched, and the licences by folder."""
    if num_graphs == len(in_folder(CONNECTIVITY)):
        logger.info("%s: %d files fetched, known version: sha256 %s", CONNECTIVITY, num_graphs, CONNECTIVITY_SHA256)
    elif num_graphs:
        logger.info("%s: %d files fetched", CONNECTIVITY, num_graphs)
    for folder, found in terms.items():
        logger.info("terms of what was fetched into %s: %s", folder, "; ".join(sorted(found)))


def fetch(source: Source, data: Path, incoming: Path) -> structure.Finding:
    """Fetch one file, check it and put it into its place.

    Raises:
        InputError: what came is not what was expected; the message names address, expected and found.
    """
    address = source.address
    arrived = incoming / source.name
    arrived.parent.mkdir(exist_ok=True)
    is_zip = source.remote_name.endswith(".zip") and not arrived.name.endswith(".zip")
    raw = arrived.with_name(source.remote_name) if is_zip else arrived
    try:
        download(address, raw, show_progress=(source.num_bytes or SMALL_BYTES) >= SMALL_BYTES and source.kind != GRAPH)
        try:
            if is_zip:
                unpack_member(raw, arrived)
            finding = structure.check(arrived, source, must_be_public=True)
        except InputError as error:
            what = str(error).replace(str(arrived), source.name).replace(str(raw), raw.name)
            raise InputError(
                f"{address} must give {source.name}, got something else: {what}; nothing of it was kept, "
                f"--source {source.name}=ADDRESS names another address"
            ) from None
        (data / source.name).parent.mkdir(parents=True, exist_ok=True)
        arrived.chmod(0o666 & ~_umask())  # temporary files are their owner's alone, data folders are often shared
        os.replace(arrived, data / source.name)
    finally:
        raw.unlink(missing_ok=True)
        arrived.unlink(missing_ok=True)
    return finding


def _umask() -> int:
    """Return the process's mask of file modes, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def unpack_member(archive: Path, target: Path) -> None:
    """Unpack the one member that is called as ``target`` is, whatever folder the archive puts it in, to ``target``.

    No other member is written, so none can land elsewhere.

    Raises:
        InputError: no archive, a damaged one, or not exactly one such member.
    """
    structure.refuse_web_page(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            found = [member for member in opened.infolist() if member.filename.rpartition("/")[2] == target.name]
            if len(found) != 1:
                names = ", ".join(opened.namelist()[:5])
                raise InputError(
                    f"file {archive} must hold one member called {target.name}, got {len(found)} (members: {names})"
                )
            with opened.open(found[0]) as packed, target.open("wb") as unpacked:
                while part := packed.read(1 << 20):
                    unpacked.write(part)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"file {archive} must be a whole zip archive, but: {error}") from None


def _tell_fetched(source: Source, finding: structure.Finding) -> None:
    if source.kind == GRAPH:
        return
    if finding.version in ("", KNOWN_VERSION):
        logger.info("%s: fetched, %s", source.name, finding.describe())
    else:
        logger.warning("%s: fetched, but it is %s", source.name, finding.describe())


def _tell_unreached(unreached: Sequence[Source], data: Path, silent: dict[str, str]) -> None:
    """Say which file to put where, from which address; the graphs, which lie in one place, in one sentence."""
    graphs = [source for source in unreached if source.kind == GRAPH]
    for source in unreached:
        if source.kind != GRAPH or len(graphs) == 1:
            why = silent[urlsplit(source.address).netloc]
            member = " (unpack it)" if source.remote_name.endswith(".zip") else ""
            logger.error("missing: put %s from %s%s there by hand; %s", data / source.name, source.address, member, why)
    if len(graphs) > 1:
        first = graphs[0]
        logger.error(
            "missing: put %d files of the folder %s (%s and others) into %s by hand; %s",
            len(graphs),
            first.address.rpartition("/")[0],
            first.remote_name,
            data / CONNECTIVITY,
            silent[urlsplit(first.address).netloc],
        )
