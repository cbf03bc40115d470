"""Reports of results: Markdown tables beside published rows (`published.json`), plots, a gallery of the worst cases."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.pictures import draw_cases, draw_rounds
from benchmarks.core.record import Record, write_text
from limnet.errors import FileFormatError, InputError
from limnet.image.io.atomic import atomic_write
from limnet.image.volume import Volume

MARGIN = 0.4  # of a view around its object, in shares of its size, on each side
SIDE = 192  # pixels of a view's longer side
TRUTH, RESULT = (86, 180, 233), (230, 159, 0)  # colours of outlines


def write_report(files: Sequence[Path], out: Path, worst: int = 6) -> list[Path]:
    """Write `out`/report.md: several methods of one suite side by side, plots, the `worst` objects of each method.

    Views of objects are looked for beside the files. Of methods that finished no object the report holds the errors.

    Raises:
        InputError: neither results nor errors among the files; matplotlib is not installed.
    """
    found = [results for results in map(read_any, files) if results is not None and (results.rows or results.errors)]
    if not found:
        raise InputError(
            "none of the files is a result of limnet bench with finished objects or errors; give results/*.json"
        )
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    parts: list[str] = []
    names: set[str] = set()
    for suite, title in dict.fromkeys(map(_section, found)):
        some = [results for results in found if _section(results) == (suite, title)]
        _tell_apart(some)
        parts.append(markdown_tables(some))
        if not (some := [results for results in some if results.rows]):
            continue
        stem = _free(suite, names)
        pictures = [draw_rounds(some, out / f"{stem}_rounds.png"), draw_cases(some, out / f"{stem}_cases.png")]
        parts.append("\n".join(f"![{picture.stem}]({picture.name})\n" for picture in pictures))
        written += pictures
        for results in some:
            views = gallery(results, out / f"{_free(results.path.stem, names)}_worst", worst)
            lines = [f"- {text}\n\n  ![{view.stem}]({view.parent.name}/{view.name})\n" for text, view in views]
            if lines:
                parts += [f"Worst objects of {results.name} (blue: truth, orange: result):\n", *lines]
            written += [view for _, view in views]
    text = "# Benchmarks\n\n" + "\n".join(parts)
    return [write_text(out / "report.md", text), *written]


def _section(results: Record) -> tuple[str, str]:
    """Suite and title: a folder's name is in the title, so that two folders are not one table."""
    return str(results.about["suite"]), str(results.about["title"])


def _tell_apart(found: Sequence[Record]) -> None:
    """Add the folder of their file, or its name, to names that occur more than once."""
    for name, number in Counter(results.name for results in found).items():
        same = [results for results in found if results.name == name]
        folders = {results.path.parent for results in same}
        for results in same if number > 1 else ():
            where = (results.path.parent.name if len(folders) == number else "") or results.path.stem
            results.label = f"{name} ({where})"


def _free(stem: str, taken: set[str]) -> str:
    """`stem`, or with a number if it is taken; adds it to `taken`."""
    name = next(n for n in (stem, *(f"{stem}_{k}" for k in range(2, len(taken) + 3))) if n not in taken)
    taken.add(name)
    return name


def read_any(path: Path) -> Record | None:
    """Results of a file; None for analyses and JSON files of another kind, so that results/*.json may be given."""
    try:
        record = Record.read(path)
    except FileFormatError as error:
        if "is no result" in str(error):
            return None
        raise
    return record if "predictor" in record.fixed else None


def idle_note(results: Record) -> str | None:
    """One line on a method that finished no object, with the first error; None if it did finish some."""
    if results.rows:
        return None
    if not results.errors:
        return f"{results.name} had nothing to do: the cases hold no object that this benchmark takes (see --smallest)"
    first = results.errors[0]
    number = len(results.errors)
    counted = f"all {number} attempts failed, the first" if number > 1 else "the only attempt failed"
    where = f"{first['case']} {first['object']}".strip()
    return f"{results.name} finished no object; {counted} at {where}: {first['error']}"


def markdown_tables(found: Sequence[Record]) -> str:
    """Tables of several methods on one suite: final Dice beside published rows, Dice per round, failures and more.

    Where clicks are counted: see `click_tables`. Methods that finished no object are in none of the tables.
    """
    first = found[0]
    shown = [results for results in found if results.rows]
    table = published_table(first.about["published"]) if shown and first.about.get("published") else None
    parts = [f"## {first.about['title']}", ""]
    if first.about.get("note"):
        parts += [str(first.about["note"]), ""]
    if len({frozenset((o["case"], o["object"], o["voxels"]) for o in results.rows) for results in shown}) > 1:
        parts += ["**The methods did not finish the same objects: their means cannot be compared.**", ""]
    if not shown:
        parts += [f"No object was finished by {' or '.join(results.name for results in found)}.", ""]
    elif first.about.get("scores") == "clicks":
        from benchmarks.suites.interaction2d import click_tables

        parts += [click_tables(shown)]
    else:
        parts += _final_table(shown, table) + _round_tables(shown) + _figures(shown) + _challenge(found)
    parts += _failures(found)
    if table is not None:
        parts += ["Published numbers are printed as they are, percent as shares of 1: " + table.source + ".", ""]
        parts += [f"- {caveat}" for caveat in table.caveats] + [""]
    parts += _settings(found)
    # One command may have run several methods.
    parts += dict.fromkeys(f"`{results.command}` ({_origin(results)})  " for results in found)
    return "\n".join(parts) + "\n"


def _final_table(found: Sequence[Record], table: Any | None) -> list[str]:
    present = sorted({group for results in found for group in results.groups})
    known = list(table.columns) if table is not None else []
    groups = known + [group for group in present if group not in known]
    lines: list[list[object]] = []
    for results in found:
        means = {"": "dice"}
        if table is not None and all("dice_slices" in row for row in results.rows):  # older files have none
            means[", per slice"] = "dice_slices"
        for what, column in means.items():
            name = results.name + what if what else f"**{results.name}**"
            cells = [_last(results.curve(column, g)) if g in results.groups else None for g in groups]
            lines.append([name, _prompts(results), *cells, _last(results.curve(column))])
    for row in table.rows if table is not None else ():
        lines.append([row.title, row.prompts, *(row.values.get(group) for group in groups), None])
    lines.append(["objects", "", *(max(results.count(group) for results in found) for group in [*groups, None])])
    text = f"Mean Dice after the last round ({max(results.rounds for results in found)})."
    if table is not None and (more := [group for group in groups if group not in known]):
        text += f" All: without {', '.join(more)}, which the published table does not have."
    return [text, "", markdown(["method", "prompts", *groups, "all"], lines)]


def _round_tables(found: Sequence[Record]) -> list[str]:
    parts = ["Mean Dice after every round.", ""]
    for results in found:
        lines: list[list[object]] = []
        for group in [*results.groups, None]:
            seconds = f"{results.median_seconds(group):.2f}".replace("nan", "-")
            lines.append([group or "all", results.count(group), *results.curve(group=group), seconds])
        numbers = [f"round {i}" for i in range(1, results.rounds + 1)]
        parts += [f"**{results.name}**", "", markdown(["group", "objects", *numbers, "s/round"], lines)]
    return parts


def _figures(found: Sequence[Record]) -> list[str]:
    names = {
        "noc@80": "NoC@80",
        "noc@85": "NoC@85",
        "noc@90": "NoC@90",
        "failed@85": "never .85",
        "dice_slices_final": "Dice per slice",
        "dice_mean": "mean over rounds",
        "rounds_lost": "rounds lost",
        "compliance": "clicks obeyed",
        "nsd_final": "NSD",
    }
    summaries = [results.summary().get("all", {}) for results in found]
    kept = [name for name in names if any(name in summary for summary in summaries)]
    lines = [
        [r.name, *(f"{s[n]:.2f}" if n.startswith("noc") and n in s else s.get(n) for n in kept)]
        for r, s in zip(found, summaries, strict=True)
    ]
    text = (
        "NoC@q: mean number of rounds until Dice reaches q percent; an object that never does counts with all rounds. "
        "Rounds lost: share of later rounds in which Dice fell by more than .02. Dice per slice: mean over the slices "
        "that hold the object, after the last round; all other Dice are those of whole volumes."
    )
    return [text, "", markdown(["method", *(names[name] for name in kept)], lines)]


def _settings(found: Sequence[Record]) -> list[str]:
    """What every method was told, by name; nested entries, such as the hashes of a model, stay in the result file."""
    lines = []
    for results in found:
        told = dict(results.fixed["predictor"])
        told |= told.pop("settings", {})
        plain = {k: v for k, v in told.items() if k not in ("name", "class") and isinstance(v, (str, int, float))}
        if plain:
            lines.append(f"- {results.name}: {', '.join(f'{key} {_plain(value)}' for key, value in plain.items())}")
    return ["Settings:", "", *lines, ""] if lines else []


def _challenge(found: Sequence[Record]) -> list[str]:
    found = [results for results in found if results.about.get("scores") == "challenge"]
    if not found:
        return []
    from benchmarks.suites.cvpr25 import CLICKS, NAMES, challenge_means

    lines = [
        [results.name, group, number, *(scores[name] for name in NAMES)]
        for results in found
        if results.rounds == CLICKS
        for group, (number, scores) in challenge_means(results).items()
    ]
    text = "Scores of the challenge, mean over cases (areas from 0 to 4; the step of the box is not counted)."
    return [text, "", markdown(["method", "group", "cases", *NAMES], lines)] if lines else []


def _failures(found: Sequence[Record]) -> list[str]:
    lines = [
        f"- {results.name}: {error['case']} {error['object']}".rstrip() + f": {_plain(error['error'])}"
        for results in found
        for error in results.errors
    ]
    heading = "Failed (in none of the means, but counted 0 in those of the CVPR 2025 challenge):"
    return [heading, "", *lines, ""] if lines else []


def _plain(text: object) -> str:
    return str(text).replace("|", "/").replace("\n", " ")


def _last(curve: Sequence[float]) -> float | None:
    return curve[-1] if curve else None


def _prompts(results: Record) -> str:
    number = results.rounds
    if results.about.get("scores") == "challenge":
        boxed = any(row["rounds"][0] == 0 for row in results.rows)
        return f"{'box, ' if boxed else ''}{number} click{'s' * (number != 1)}"
    if results.fixed["config"]["rounds"].get("class") == "SlicePointRounds":
        return "N points" if number == 1 else f"{number} N points"
    return "1 round" if number == 1 else f"{number} rounds"


def _origin(results: Record) -> str:
    def every(name: str) -> list[str]:  # a field of a header is a list where there are several
        value = results.environment.get(name)
        return [str(one) for one in (value if isinstance(value, list) else [value]) if one]

    short = [name[:10] + ("+" if name.endswith("+changes") else "") for name in every("commit")]
    parts = [f"limnet {' and '.join(every('limnet')) or '?'}", " and ".join(short)]
    parts.append(results.environment["machine"]["cpu"])
    return ", ".join(part for part in [*parts, f"{' and '.join(every('threads')) or '?'} threads"] if part)


def markdown(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table; floats get three decimals, NaN and None a dash."""
    rows = [[_cell(v) for v in line] for line in lines]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [list(head), rule, *rows]) + "\n"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.3f}" if np.isfinite(value) else "-"


def mean_and_error(values: Sequence[float]) -> str:
    """Mean of differences with its standard error."""
    if not values:
        return "-"
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):+.4f} ± {error:.4f}"


def share(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.1f} %" if np.isfinite(value) else "-"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value).replace("|", "\\|")


def published_table(name: str) -> SimpleNamespace:
    """A table: title, source, columns (groups of a suite bear their names), rows, caveats that forbid comparisons.

    A row has a method as the paper names it, prompts ("6 rounds"), values (column -> Dice in 0..1, some may be
    missing), a note where numbers are not the paper's own, and a title, such as "Mem3D (published) [quoted]".

    Raises:
        InputError: there is none of that name.
    """
    found = _content()["tables"].get(name)
    if found is None:
        raise InputError(f"no published table {name!r}; there are {', '.join(published_names())}")
    rows = []
    for row in found["rows"]:
        values = {c: v / 100 for c, v in zip(found["columns"], row["values"], strict=True) if v is not None}
        note = row.get("note", "")
        title = f"{row['method']} (published)" + (f" [{note}]" if note else "")
        prompts = row.get("prompts", "")
        rows.append(SimpleNamespace(method=row["method"], prompts=prompts, values=values, note=note, title=title))
    caveats, source = [*_content()["caveats"], *found["caveats"]], _content()["source"]
    return SimpleNamespace(**{**found, "rows": rows, "caveats": caveats, "source": source})


def published_names() -> list[str]:
    """Names of all tables."""
    return list(_content()["tables"])


def published_runtime() -> SimpleNamespace:
    """The run time the LIM-Net paper states; its attributes are those of "runtime" in `published.json`."""
    return SimpleNamespace(**_content()["runtime"])


def published_clicks() -> SimpleNamespace:
    """Clicks to an IoU that papers state: source, columns (data sets), caveats, and rows.

    A row is (method, quality in percent, "85" or "90", column -> mean clicks; columns may be missing).
    """
    found = _content()["clicks"]
    rows = [
        (row["method"], quality, {c: v for c, v in zip(found["columns"], values, strict=True) if v is not None})
        for row in found["rows"]
        for quality in ("85", "90")
        if (values := row.get(f"noc{quality}")) is not None
    ]
    return SimpleNamespace(**{**found, "rows": rows})


@cache
def _content() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))


def view_of(volume: Volume, axis: int, truth: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """RGB picture of the slice with most wrong pixels (none wrong: where the object is largest), cut to the object.

    Outlines: truth blue, mask orange. `truth` and `mask` are bool (D, H, W); pixels come out square.
    """
    others = tuple(a for a in range(3) if a != axis)
    wrong = (truth ^ mask).sum(axis=others)
    index = int(np.argmax(wrong if wrong.any() else truth.sum(axis=others)))
    flat, found = np.take(truth, index, axis), np.take(mask, index, axis)
    cut = _cut(flat | found)
    picture, flat, found = np.take(volume.array, index, axis)[cut], flat[cut], found[cut]
    around = picture[flat] if flat.any() else picture
    low, high = volume.intensity.default_window if volume.is_color else volume.intensity.window_around(around)
    shown = np.nan_to_num((picture.astype(np.float32) - low) / max(high - low, 1e-9)).clip(0, 1)
    shown = shown if volume.is_color else np.repeat(shown[..., None], 3, axis=-1)
    size = np.array(flat.shape) * [volume.spacing[a] for a in others]
    factors = SIDE / size.max() * size / flat.shape
    image = ndimage.zoom(255 * shown, (*factors, 1), order=1, mode="nearest", grid_mode=True).round().astype(np.uint8)
    for region, colour in ((flat, TRUTH), (found, RESULT)):
        large = ndimage.zoom(region.astype(np.uint8), factors, order=0, mode="nearest", grid_mode=True) > 0
        image[large & ~ndimage.binary_erosion(large)] = colour
    return image


def _cut(region: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns around a region with a margin; all of them around an empty one."""
    parts = []
    for axis in (1, 0):
        held = np.flatnonzero(region.any(axis=axis))
        size = region.shape[1 - axis]
        lo, hi = (int(held[0]), int(held[-1]) + 1) if held.size else (0, size)
        margin = max(8, round((hi - lo) * MARGIN))
        parts.append(slice(max(0, lo - margin), min(size, hi + margin)))
    return parts[0], parts[1]


def view_path(out: Path, key: str, case: str, object: str) -> Path:
    """File of an object's view beside the result file; other configurations (`key`) have views of their own."""
    plain = re.sub(r"[^\w.=-]+", "-", f"{case}_{object}")[:120]
    return out.with_suffix("") / f"{plain}_{zlib.crc32(f'{key}/{case}/{object}'.encode()):08x}.png"


def write_view(path: Path, view: NDArray[np.uint8]) -> None:
    """Write a picture (some kB), (H, W, 3); the folder is made if needed."""
    import SimpleITK as sitk

    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(view, isVector=True)
    atomic_write(path, lambda temporary: sitk.WriteImage(image, str(temporary), imageIO="PNGImageIO"))


def gallery(results: Record, folder: Path, number: int = 6) -> list[tuple[str, Path]]:
    """Copy the views of the objects with the lowest Dice (or IoU) in the end: what each shows, and its file.

    Views lie in the folder beside the result file; objects without one are passed over.
    """
    scores = results.last()
    found: list[tuple[str, Path]] = []
    for case, thing in sorted(scores, key=lambda name: (scores[name], name)):
        view = view_path(results.path, results.key, case, thing)
        if view.is_file() and len(found) < number:
            folder.mkdir(parents=True, exist_ok=True)
            text = f"{case} {thing}: {results.quality_name} {scores[case, thing]:.2f}"
            found.append((text, Path(shutil.copy(view, folder / view.name))))
    return found
