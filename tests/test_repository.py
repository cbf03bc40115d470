"""Rules for the files of the repository."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def tracked() -> list[Path]:
    """Files git knows, or every file outside hidden and build folders where there is no git."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [p for name in done.stdout.split("\0") if name and (p := ROOT / name).is_file()]
    skipped = {"build", "dist", "out", "runs"}
    return [
        p
        for p in ROOT.rglob("*")
        if p.is_file() and not any(part.startswith(".") or part in skipped for part in p.relative_to(ROOT).parts)
    ]


def test_the_newest_release_in_the_changelog_is_this_version():
    from limnet import __version__

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[([^\]]+)\]([^\n]*)(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert sections[0][0] == "Unreleased"
    name, date, body = sections[1]
    assert name == __version__
    assert re.fullmatch(r" - \d{4}-\d\d-\d\d", date)
    assert re.search(r"^- \S", body, re.MULTILINE), f"{name} has no line in CHANGELOG.md"


def test_no_large_files():
    assert [str(p) for p in tracked() if p.stat().st_size > 20_000_000] == []


def narrows_a_type(node: ast.Assert) -> bool:
    """Asserts that tell the type checker something: `isinstance(x, T)`, `x is not None`. They catch no user error."""
    test = node.test
    if isinstance(test, ast.Compare):
        return isinstance(test.ops[0], ast.IsNot) and ast.unparse(test.comparators[0]) == "None"
    return isinstance(test, ast.Call) and ast.unparse(test.func) == "isinstance"


def test_no_print_and_no_assert_in_the_library():
    wrong = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            if is_print or (isinstance(node, ast.Assert) and not narrows_a_type(node)):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong


def test_every_module_says_what_it_is():
    assert [str(p) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))] == []


def headings(path: Path) -> set[str]:
    """Anchors of a Markdown file, as its readers make them."""
    lines = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL).splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", t).replace(" ", "-") for t in titles}


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path):
    text = re.sub(r"```.*?```|<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in headings(file)):
            broken.append(target)
    assert not broken


def test_readme_shows_the_demos_picture_once_there_is_one():
    shown = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert ("(docs/images/demo.png)" in shown) == (ROOT / "docs/images/demo.png").exists()


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_python_examples_are_python(path: Path):
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        ast.parse(block)


def test_shown_commands_exist():
    from limnet.cli import app

    names = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    names |= {str(g.name) for g in app.registered_groups}
    for path in TEXTS:
        fenced = re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        blocks = "".join(body for language, body in fenced if not language)
        for used in re.findall(r"^limnet (\w+)", blocks, re.MULTILINE):
            assert used in names, f"{path.name} shows `limnet {used}`"
