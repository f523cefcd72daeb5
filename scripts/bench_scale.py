"""Measures memory and time against the size of the work: ``python scripts/bench_scale.py``.

Makes training files of N generated instructions in RxR's guide format on real graphs, then trains a blind follower on
each in a fresh process: once to compile the file (seconds), once from the cache (memory after the last iteration, and
what drawing a batch costs). ``--scans`` repeats the graphs under other names, as a collection of own buildings.
Anonymous memory is what a process takes from others; mapped files are in the total while nobody else needs the room.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from vln_clip.connectivity import NavTables

SMAPS = Path("/proc/self/smaps_rollup")
WORDS = 800
DRAWS = 200


@dataclass(frozen=True)
class ScaleConfig:
    """Measure memory and time against the number of instructions and scans."""

    instructions: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """sizes of the training file"""
    scans: int | None = None
    """so many scans; by default those of $VLN_CLIP_DATA/connectivity"""
    iters: int = 20
    """training iterations before memory is read"""
    folder: Path | None = None
    """where files and caches are made; by default a temporary folder"""
    child: int | None = None
    """measure this size in this process and print JSON (used internally)"""


def main() -> None:
    """Make the files, measure each size in fresh processes, print a table."""
    config = tyro.cli(ScaleConfig)
    if config.child is not None:
        assert config.folder is not None
        print(json.dumps(measure(config.folder, config.child, config.iters)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = config.folder or Path(temporary)
        make_graphs(folder, config.scans)
        print(
            f"{'instructions':>12}{'file MB':>9}{'cache MB':>10}{'compile s':>11}{'start s':>9}"
            f"{'anonymous MB':>14}{'total MB':>10}{'ms a batch':>12}{'it/s':>7}"
        )
        for size in config.instructions:
            file = make_guides(folder, size)
            first, again = (child(folder, size, iters) for iters in (1, config.iters))
            cache_mb = sum(path.stat().st_size for path in (folder / f"cache{size}").rglob("*") if path.is_file()) / 1e6
            print(
                f"{size:>12,}{file.stat().st_size / 1e6:>9.0f}{cache_mb:>10.0f}"
                f"{first['start_s'] - again['start_s']:>11.1f}{again['start_s']:>9.1f}"
                f"{again['anonymous_mb']:>14.0f}{again['total_mb']:>10.0f}"
                f"{again['batch_ms']:>12.3f}{again['iters_per_s']:>7.2f}   "
                f"(while compiling: {first['start_anonymous_mb']:.0f} anonymous)",
                flush=True,
            )


def child(folder: Path, size: int, iters: int) -> dict[str, float]:
    """Measure in a fresh process."""
    words = ["--child", str(size), "--folder", str(folder), "--iters", str(iters)]
    environment = os.environ | {"VLN_CLIP_DATA": str(folder / "data"), "VLN_CLIP_CACHE": str(folder / f"cache{size}")}
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def make_graphs(folder: Path, num_scans: int | None) -> None:
    """Link the connectivity files into ``folder``, again and again under other names to the number wanted."""
    from vln_clip.connectivity.graphs import graph_path, read_scans
    from vln_clip.paths import data_dir

    source, target = data_dir() / "connectivity", folder / "data" / "connectivity"
    target.mkdir(parents=True, exist_ok=True)
    scans = read_scans(source)
    names = []
    for number in range(num_scans or len(scans)):
        scan = scans[number % len(scans)]
        name = scan if number < len(scans) else f"{scan}-{number // len(scans)}"
        names.append(name)
        link = target / f"{name}_connectivity.json"
        if not link.exists():
            link.symlink_to(graph_path(source, scan).absolute())
    (target / "scans.txt").write_text("\n".join(names) + "\n")


def make_guides(folder: Path, size: int) -> Path:
    """Write ``size`` instructions of random words for random walks, and a small val_unseen split."""
    from vln_clip.connectivity import NavTables
    from vln_clip.connectivity.graphs import read_scans

    rng = random.Random(0)
    tables = NavTables.load(folder / "data" / "connectivity", read_scans(folder / "data" / "connectivity"), cache=False)
    members = [tables.viewpoints(scan) for scan in tables.scans]
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(WORDS)]
    rxr = folder / "data" / "RxR"
    rxr.mkdir(exist_ok=True)
    file = rxr / f"generated_{size}.jsonl"
    for path, count in ((file, size), (rxr / "rxr_val_unseen_guide.jsonl", 500)):
        with path.open("w", encoding="utf-8") as stream:
            written = 0
            while written < count:
                scan = written % len(members)
                route = wander(tables, int(rng.choice(members[scan])), rng)
                item = {
                    "instruction_id": written,
                    "path_id": written,
                    "language": "en",
                    "scan": tables.scans[scan],
                    "path": [tables.viewpoint_id(index) for index in route],
                    "heading": rng.uniform(0, 6.28),
                    "instruction": " ".join(rng.choices(words, k=rng.randint(20, 100))),
                }
                stream.write(json.dumps(item) + "\n")
                written += 1
    return file


def wander(tables: "NavTables", start: int, rng: random.Random) -> list[int]:
    """Return a walk of four to eight viewpoints; of one where there is no way on."""
    route = [start]
    for _ in range(rng.randint(3, 7)):
        degree = int(tables.degree[route[-1]])
        if degree:
            route.append(int(tables.neighbor[route[-1], rng.randrange(degree)]))
    return route


def memory_mb() -> tuple[float, float]:
    """Return anonymous and total resident memory of this process."""
    rows = dict(line.split(":") for line in SMAPS.read_text().splitlines()[1:])
    return tuple(int(rows[name].split()[0]) / 1024 for name in ("Anonymous", "Rss"))  # type: ignore[return-value]


def measure(folder: Path, size: int, iters: int) -> dict[str, float]:
    """Open one file, train and measure in this process."""
    import torch

    from vln_clip import config as configs
    from vln_clip import devices, envdrop, optimizers, setting
    from vln_clip.sampler import ShuffledSampler

    preset, device = configs.PRESETS["rxr"], devices.pick_device("cpu")
    started = time.perf_counter()
    file = folder / "data" / "RxR" / f"generated_{size}.jsonl"
    data = setting.open_setting("rxr", None, device, max_input=preset.follower.max_input, language="en", train=file)
    table = data.table(setting.TRAIN)
    start_s, start_anonymous_mb = time.perf_counter() - started, memory_mb()[0]
    follower = setting.build_follower(data, preset.model, 0, seed=1)
    optimizer = optimizers.make_optimizer(follower, preset.follower.optimizer, preset.follower.lr)
    sampler = ShuffledSampler(len(table), preset.follower.batch_size, seed=1)
    generator = torch.Generator(device).manual_seed(1)
    world = data.world([])
    learner = envdrop.FollowerLearner(world, follower, optimizer, table, sampler, preset.follower, generator, 0.4)
    started = time.perf_counter()
    for _ in range(iters):
        learner()
    train_s = time.perf_counter() - started
    anonymous_mb, total_mb = memory_mb()
    started = time.perf_counter()
    for _ in range(DRAWS):
        table.batch(sampler.next())
    return {
        "start_s": start_s,
        "start_anonymous_mb": start_anonymous_mb,
        "anonymous_mb": anonymous_mb,
        "total_mb": total_mb,
        "iters_per_s": iters / train_s,
        "batch_ms": 1e3 * (time.perf_counter() - started) / DRAWS,
    }


if __name__ == "__main__":
    main()
