"""The commands in the documents exist, and so does every option that they show."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main

from ser_features.augment.parse import parse_augmentation
from ser_features.corpora.table import CORPORA
from ser_features.heads.table import HEADS
from ser_features.studies.table import STUDIES
from ser_features.train.strategies import parse_strategy
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


def values(words: list[str], option: str) -> list[str]:
    """What follows an option, wherever it stands."""
    return [after for word, after in pairwise(words) if word == option]


def test_documented_upstreams_are_in_the_catalogue():
    for _, words in commands():
        for text in values(words, "--upstreams"):
            for one in text.split(","):
                assert parse_request(one).target in CATALOG


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: str(value)[:60])
def test_what_a_documented_command_names_exists(page, words):
    if words[0] == "study":
        assert words[1] in STUDIES, page
    for text in values(words, "--corpus"):
        assert text.partition("=")[0] in CORPORA, page
    for text in (*values(words, "--augment"), *values(words, "--test-condition")):
        assert parse_augmentation(text) is not None, page
    for text in values(words, "--strategy"):
        assert parse_strategy(text), page
    for text in (*values(words, "--head"), *values(words, "--heads")):
        assert all(one in HEADS for one in text.split(",")), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_links_or_shows_is_there(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
