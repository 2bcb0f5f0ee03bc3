"""What the README shows is what happens."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_example_prints_what_is_shown():
    (code,), (expected,) = blocks("python"), blocks("text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == expected


def test_two_commands_do_everything():
    """The same two that continuous integration runs."""
    commands = [block.strip() for block in blocks("sh") if block.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("minigrad train")
    assert commands[1].endswith("-m pytest")


def test_every_named_place_exists():
    for row in re.findall(r"^\| (`.*?) \|", README.partition("## Where things are")[2], re.MULTILINE):
        base = Path()
        for name in re.findall(r"`([^`]+)`", row):
            found = next(p for p in (ROOT / name, ROOT / base / name) if p.exists())
            base = found.relative_to(ROOT).parent if found.parent != ROOT else Path()
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists()
