"""The commands in the documents exist, and so does every option that they show."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from ser_features.upstreams.catalog import CATALOG
from ser_features.upstreams.request import parse_request
from ser_features_cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, list[str]]]:
    lines = [
        (page.name, text.strip())
        for page in PAGES
        for block in BLOCK.findall(page.read_text())
        for text in block.replace("\\\n", " ").splitlines()
    ]
    return [(p, shlex.split(t, comments=True)[1:]) for p, t in lines if t.startswith("serfeat ")]


def resolve(words: list[str]) -> tuple[object, list[str]]:
    command = typer.main.get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    return command, rest


def test_there_are_commands_to_check():
    assert len(commands()) >= 2


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: str(value)[:60])
def test_a_documented_command_and_its_options_exist(page, words):
    command, rest = resolve(words)
    assert not hasattr(command, "commands"), f"{page}: no such command: {' '.join(words)}"
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    options = [word.partition("=")[0] for word in rest if word.startswith("-")]
    assert set(options) <= known, page


def test_documented_upstreams_are_in_the_catalogue():
    for _, words in commands():
        if "--upstreams" in words:
            for text in words[words.index("--upstreams") + 1].split(","):
                assert parse_request(text).target in CATALOG


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_links_or_shows_is_there(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
