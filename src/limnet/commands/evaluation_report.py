"""What an evaluation found, as files: rounds.csv, objects.csv, and report.md with means and standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from limnet.commands.evaluation import Plan, PlayedObject
from limnet.environment import command_line
from limnet.image.io.atomic import atomic_write
from limnet.metrics.interaction import clicks_to_quality
from limnet.metrics.table import QUALITIES, Table

_ALL = "all"


def mean_and_error(values: Sequence[float], images: Sequence[str]) -> tuple[float, float]:
    """Mean over objects and its standard error, NaN for a single image.

    Objects of one image (and plays of one object) are not independent: the error is the cluster-robust one (Liang and
    Zeger, Biometrika 1986), with the `images` they lie in as clusters. With one object in each image it is the
    customary s / sqrt(n).

    Example:
        >>> mean_and_error([0.5, 0.75], ["a", "b"])
        (0.625, 0.125)
    """
    mean = math.fsum(values) / len(values)
    off = dict.fromkeys(images, 0.0)
    for value, image in zip(values, images, strict=True):
        off[image] += value - mean
    if len(off) < 2:
        return mean, math.nan
    variance = math.fsum(v * v for v in off.values()) * len(off) / (len(off) - 1)
    return mean, math.sqrt(variance) / len(values)


def write_results(played: Sequence[PlayedObject], plan: Plan, out: Path, told: str, problems: Sequence[str]) -> Path:
    """Write the three files into `out`, `told` in the head and the images left out in the end; returns report.md."""
    clicks, objects = [], []
    for one in played:
        name = one.thing.name if plan.seeds == 1 else f"{one.thing.name} (seed {one.seed})"
        name += f" (learned from {one.learned})" if one.learned else ""
        about: dict[str, object] = {"case": one.case, "object": name, "group": one.thing.label}
        if plan.learn:
            about |= {"learned": one.learned, "proposal": one.proposal or 0.0}
        for number, r in enumerate(one.rounds, start=1):
            z, y, x = r.zyx
            found = {"dice": r.dice, "seconds": r.seconds, "z": z, "y": y, "x": x, "positive": r.positive}
            clicks.append({**about, "round": number, **found, **({} if r.nsd is None else {"nsd": r.nsd})})
        objects.append({**about, "round": len(one.rounds), **_figures(one, plan)})
    Table(clicks).to_csv(out / "rounds.csv")
    Table(objects).to_csv(out / "objects.csv")
    plain = [i for i, one in enumerate(played) if not one.learned]
    text = _report([objects[i] for i in plain], [played[i] for i in plain], plan, told)
    if plan.learn:
        text += "\n\n## With learning\n\n" + _learned(played, plan)
    if problems:
        text += "\n\n## Left out\n\n" + "\n".join(f"- {problem}" for problem in problems)
    text += "\n"
    return atomic_write(out / "report.md", lambda path: path.write_text(text, encoding="utf-8"))


def _figures(one: PlayedObject, plan: Plan) -> dict[str, float]:
    """The numbers of one object, in the order of the columns."""
    last = one.rounds[-1] if one.rounds else None
    found = {"dice": one.curve[-1], **({} if last is None or last.nsd is None else {"nsd": last.nsd})}
    found |= {f"noc{100 * q:.0f}": _clicks(one, q, plan) for q in QUALITIES}
    return found | {"seconds": math.fsum(r.seconds for r in one.rounds) / max(len(one.rounds), 1)}


def _clicks(one: PlayedObject, quality: float, plan: Plan) -> float:
    """Clicks to a Dice; none where the proposal has it."""
    good = one.proposal is not None and one.proposal >= quality
    return 0.0 if good else float(clicks_to_quality(one.curve, quality, plan.rounds))


def _learned(played: Sequence[PlayedObject], plan: Plan) -> str:
    """Every label without and with what was learned of it."""
    rows = []
    for label in sorted({one.thing.label for one in played}):
        for learned in (0, *sorted(set(plan.learn))):
            group = [one for one in played if one.thing.label == label and one.learned == learned]
            if not group:
                continue
            full = [[one.proposal or 0.0, *one.curve] for one in group]
            full = [curve + curve[-1:] * (plan.rounds + 1 - len(curve)) for curve in full]
            clicks = [[_clicks(one, q, plan) for one in group] for q in QUALITIES]
            columns = [*zip(*full, strict=True), *clicks]
            means = [f"{math.fsum(values) / len(values):.3f}" for values in columns]
            rows.append([label, str(learned or "-"), str(len(group)), means[0] if learned else "-", *means[1:]])
    head = ["label", "learned from", "objects", "proposal", *(f"click {r}" for r in range(1, plan.rounds + 1))]
    about = (
        "Mean Dice of the mask proposed before the first click, and after clicks. A good proposal takes no click.\n\n"
    )
    return about + _table([*head, *(f"NoC@.{100 * q:.0f}" for q in QUALITIES)], rows)


def _report(objects: Sequence[dict[str, object]], played: Sequence[PlayedObject], plan: Plan, told: str) -> str:
    titles = {"dice": "Dice", "nsd": f"NSD ({plan.nsd_mm:g} mm)" if plan.nsd_mm else "", "seconds": "s a round"}
    titles |= {f"noc{100 * q:.0f}": f"NoC@.{100 * q:.0f}" for q in QUALITIES}
    columns = list(_figures(played[0], plan))
    labels = sorted({one.thing.label for one in played})
    groups = {label: [i for i, one in enumerate(played) if one.thing.label == label] for label in labels}
    if len(labels) > 1:
        groups[_ALL] = list(range(len(played)))
    curves = [one.curve for one in played]
    full = [curve + curve[-1:] * (plan.rounds - len(curve)) for curve in curves]

    def mean(group: list[int], values: Sequence[float], digits: int = 3) -> str:
        value, error = mean_and_error([values[i] for i in group], [played[i].case for i in group])
        return f"{value:.{digits}f}" + ("" if math.isnan(error) else f" ± {error:.{digits}f}")

    def cell(group: list[int], column: str) -> str:
        values = [float(row[column]) for row in objects]  # type: ignore[arg-type]
        if not column.startswith("noc"):
            return mean(group, values, 2 if column == "seconds" else 3)
        missed = sum(max(curves[i]) < int(column[3:]) / 100 for i in group)
        return mean(group, values, 2) + (f" ({missed} never)" if missed else "")

    def entry(i: int, column: str) -> str:
        if not column.startswith("noc"):
            return f"{objects[i][column]:.{2 if column == 'seconds' else 3}f}"
        return f">{plan.rounds}" if max(curves[i]) < int(column[3:]) / 100 else f"{objects[i][column]:.0f}"

    seeds = f", {plan.seeds} seeds, clicks up to {plan.jitter:g} mm off the middle" if plan.jitter else ""
    parts = [
        "# limnet evaluate",
        f"{told}; at most {plan.rounds} clicks for each object{seeds}; slices along axis {plan.axis}.\n\n"
        f"    {command_line()}",
        "Mean over the objects ± standard error (objects of one image count as dependent; none for a single image). "
        "NoC@q: clicks until Dice reaches q; an object that never does counts with the greatest number of clicks.",
        "## After the last click",
        _table(
            ["label", "objects", *(titles[c] for c in columns)],
            [[name, str(len(group)), *(cell(group, c) for c in columns)] for name, group in groups.items()],
        ),
        "## Dice after each click",
        _table(
            ["label", *map(str, range(1, plan.rounds + 1))],
            [
                [name, *(mean(group, [curve[r] for curve in full]) for r in range(plan.rounds))]
                for name, group in groups.items()
            ],
        ),
        "## Every object",
        _table(
            ["image", "object", "clicks", *(titles[c] for c in columns)],
            [
                [str(row["case"]), str(row["object"]), str(row["round"])] + [entry(i, c) for c in columns]
                for i, row in enumerate(objects)
            ],
        ),
    ]
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
