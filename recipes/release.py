"""Put trained parts together as a model folder: weights in half precision, golden outputs, results and card.

    python recipes/release.py --interaction runs/stage1/interaction --propagation runs/propagation/propagation \\
        --quality runs/quality/quality --notes recipes/limnet-tiny.json --out zoo/limnet-tiny
    python recipes/release.py --out zoo/limnet-tiny --notes recipes/limnet-tiny.json \\
        --open benchmarks/results/open_val.json --demo out/demo/results.json

The second form keeps the weights and renews results and card from benchmark files. Without --notes the card says
nothing about data and limits; without --quality the model has no fusion.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

ANALYSES = {
    "compare_peers": "Beside methods without weights",
    "mrf_rounds": "Multi-round result fusion",
    "mrf_rounds_volume": "Multi-round result fusion as the paper propagates",
    "interaction2d": "The interaction network alone",
    "ablations": "Ablations",
    "ablations_prompts": "Perfect prompt masks",
    "ablations_models": "Trained with and without defective masks",
    "robustness": "Robustness",
    "suggest": "Suggested slices",
    "calibration": "Calibration of quality",
    "cost": "Cost",
}


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interaction", help="folder of the interaction part, or of its training")
    parser.add_argument("--propagation", help="the same of the propagation part")
    parser.add_argument("--quality", help="the same of the quality part; left out: no fusion")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE", help="such as scope=interval")
    parser.add_argument("--notes", type=Path, help="JSON with data and limits for the card")
    parser.add_argument("--open", type=Path, help="result of `limnet bench open`")
    parser.add_argument("--open-data", default="volumes never trained on", help="what --open was measured on")
    parser.add_argument("--analyses", type=Path, help="folder with the .md files of the analyses in benchmarks/")
    parser.add_argument("--demo", type=Path, help="result of `limnet demo`")
    parser.add_argument("--machine", default="two CPU cores of a server", help="where the numbers were measured")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def read_json(path: Path, option: str, keys: Sequence[str]) -> dict[str, Any]:
    """Content of a JSON file with these lists.

    Raises:
        MissingFileError: there is none.
        FileFormatError: no JSON, or a list is missing.
    """
    from limnet.errors import FileFormatError, MissingFileError

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"{option} is {path}, which does not exist; give a JSON file or leave it out") from error
    except (ValueError, OSError) as error:
        raise FileFormatError(f"{option} is {path}, which cannot be read ({error}); give a JSON file") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(key), list) for key in keys):
        raise FileFormatError(f"{option} is {path}; give a JSON object with the list(s) {', '.join(keys)}")
    return found


def measurements(args: argparse.Namespace) -> list:
    """Rows of the card, each with the command that made it."""
    from limnet.hub.card import Measurement

    rows = []
    if args.open:
        found = read_json(args.open, "--open", ("rows",))
        command = found["command"]
        for group in (*sorted({row["group"] for row in found["rows"]}), None):
            some = [row for row in found["rows"] if group in (row["group"], None)]
            data = f"{args.open_data}: {group or 'all'}, {len(some)} objects"
            for turn in (1, 3, 6):
                last = [row["dice"][min(turn, len(row["dice"])) - 1] for row in some]  # one may be finished earlier
                measure = f"mean Dice after {turn} round{'s' * (turn > 1)}"
                rows.append(Measurement(measure, round(fmean(last), 3), command, "", data))
        seconds = [s for row in found["rows"] for s in row["seconds"]]
        rows.append(Measurement("median time of a round", round(median(seconds), 2), command, "s", "the same"))
    if args.demo:
        report = read_json(args.demo, "--demo", ("mean_dice",))
        rows.append(
            Measurement(
                "mean Dice after 6 rounds, five structures",
                round(float(report["mean_dice"][-1]), 3),
                "limnet demo",
                "",
                "demo CT, which was among the training volumes",
            )
        )
    return rows


def analyses(folder: Path) -> str:
    """Tables of the analyses found in `folder`, one chapter each, their headings one level down."""
    chapters = []
    for name, title in ANALYSES.items():
        path = folder / f"{name}.md"
        if path.exists():
            lines = path.read_text(encoding="utf-8").strip().splitlines()
            chapters.append("\n".join([f"## {title}", "", *("#" + s if s.startswith("#") else s for s in lines)]))
    return "\n\n".join(chapters)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the model folder and check it."""
    from limnet.errors import LimnetError

    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.interaction is None) != (args.propagation is None) or (args.quality and not args.interaction):
        parser.error("a model needs --interaction and --propagation; give both, or neither to keep the weights")
    try:
        release(args)
    except LimnetError as error:
        raise SystemExit(f"{parser.prog}: {error}") from error


def release(args: argparse.Namespace) -> None:
    """Write weights if there are new ones, then results and card."""
    from limnet.hub.card import Results, make_card, write_card, write_results
    from limnet.hub.folder import load_component
    from limnet.hub.model import save_model
    from limnet.hub.verify import verify_model, write_golden
    from limnet.settings import parse_settings
    from limnet.training.train import find_part

    def part(name: str, role: str) -> Any:
        return load_component(find_part(name, role), role)

    settings = parse_settings(args.setting)
    notes = read_json(args.notes, "--notes", ("data", "limits")) if args.notes else {"data": [], "limits": []}
    if args.interaction:
        save_model(
            args.out,
            interaction=part(args.interaction, "interaction"),
            propagation=part(args.propagation, "propagation"),
            quality=part(args.quality, "quality") if args.quality else None,
            settings=settings,
            half=True,
        )
        write_golden(args.out)
    results = Results(tuple(measurements(args)), tuple(notes["data"]), tuple(notes["limits"]), args.machine)
    write_results(args.out, results)
    tables = analyses(args.analyses) if args.analyses else ""
    write_card(args.out, make_card(args.out, name=args.out.name, source=args.out.name, analyses=tables))
    for problem in verify_model(args.out, bundled=True if args.notes else None):
        print(problem)


if __name__ == "__main__":
    main()
