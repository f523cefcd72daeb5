"""What pre-training and a learning encoder bring: CLIP-ViL_p on the demo's tasks, several seeds.

    python scripts/vil_table.py --seeds 1 2 3 --out table.md

Every seed is a run of ``python -m vln_clip.pretrain --demo`` for an encoder that learns and one for a frozen one; each
run fine-tunes with and without pre-training. Runs that are there already are not run again.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import tyro

TASKS = ("vqa", "gqa", "snli_ve")
ENCODERS = {"learning": (), "frozen": ("--freeze-encoder",)}
STARTS = {"pre-trained": "", "not pre-trained": "_no_pretraining"}


@dataclass(frozen=True)
class Table:
    """Train the runs of the table and print it."""

    seeds: tuple[int, ...] = (1, 2, 3)
    """one run of each encoder per seed"""
    runs: Path = Path("runs")
    """folder of the runs"""
    out: Path | None = None
    """also write the table here"""
    flags: tuple[str, ...] = ()
    """more words for every run, the first one after "=": --flags=--eval-rows 500"""


def main() -> None:
    """Run the script."""
    config = tyro.cli(Table)
    found = {(name, seed): run(config, name, seed) for name in ENCODERS for seed in config.seeds}
    text = "\n".join(table(config, found))
    print(text)
    if config.out is not None:
        config.out.write_text(text + "\n")


def run(config: Table, encoder: str, seed: int) -> dict[str, dict[str, float]]:
    """Return the rows of one run, which is trained where it is not there."""
    name = f"vil_{encoder}_{seed}"
    command = [sys.executable, "-m", "vln_clip.pretrain", "--demo", "--seed", str(seed), "--name", name]
    begun_s = time.perf_counter()
    subprocess.run([*command, "--runs", str(config.runs), *ENCODERS[encoder], *config.flags], check=True)
    print(f"{name}: {time.perf_counter() - begun_s:.0f} s", file=sys.stderr)
    rows: dict[str, dict[str, float]] = json.loads((config.runs / name / "results.json").read_text())["val"]
    return rows


def table(config: Table, found: dict[tuple[str, int], dict[str, dict[str, float]]]) -> list[str]:
    """Return the table's lines: mean and, of several seeds, standard deviation of the accuracy in percent."""
    lines = ["| encoder | start | " + " | ".join(TASKS) + " |", "|---|---|" + "---|" * len(TASKS)]
    first = found[next(iter(ENCODERS)), config.seeds[0]]
    majority = [f"{100 * first[f'{task}_majority']['accuracy']:.1f}" for task in TASKS]
    lines.append("| none | the most common label | " + " | ".join(majority) + " |")
    for encoder in ENCODERS:
        for start, ending in STARTS.items():
            values = [
                [100 * found[encoder, seed][task + ending]["accuracy"] for seed in config.seeds] for task in TASKS
            ]
            lines.append(f"| {encoder} | {start} | " + " | ".join(map(shown, values)) + " |")
    return lines


def shown(values: list[float]) -> str:
    """Return mean and standard deviation."""
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"


if __name__ == "__main__":
    main()
