"""``vln-clip VERB …`` runs the program ``vln_clip.VERB``."""

import importlib
import sys

from vln_clip.errors import unknown_name

PROGRAMS = {
    "train": "train follower, speaker and back-translated follower; evaluate; write the submission",
    "evaluate": "score checkpoints and prediction files, with context; compare them",
    "visualize": "show how agents walk: page, map, video, contact sheet; or live in a browser",
    "submit": "write, validate, merge or convert leaderboard submissions",
    "extract": "extract features of the 36 views from skyboxes",
    "features": "inspect, convert, verify and compare feature files",
    "vqa": "train, evaluate and use models that answer questions about images",
    "caption": "train and evaluate captioners; caption your own pictures",
    "pretrain": "pre-train CLIP-ViL_p, fine-tune it on VQA, GQA and SNLI-VE",
    "explain": "what in a picture speaks for a text, in the eyes of encoders",
    "plot": "learning curves of runs, with confidence bands over seeds",
    "data": "list, fetch and verify the data folder; build the demo world; make R4R",
    "scenes": "make graph and skyboxes of your own building; check and draw any",
    "mattersim": "run a program that imports MatterSim, without that module",
}


def main() -> None:
    """Run the program named by the first word."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print("usage: vln-clip VERB [flags]   (vln-clip VERB --help lists a program's flags)\n")
        print("\n".join(f"  {name:<11}{text}" for name, text in PROGRAMS.items()))
        raise SystemExit(0)
    if words[0] not in PROGRAMS:
        print(f"error: {unknown_name('verb', words[0], PROGRAMS)}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv = [f"vln-clip {words[0]}", *words[1:]]
    importlib.import_module(f"vln_clip.{words[0]}").cli()


if __name__ == "__main__":
    main()
