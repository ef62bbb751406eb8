"""What the command line says of itself, and what it does not import to say it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from cli_runner import environment, good_corpus, serfeat
from ser_features import __version__
from ser_features_cli.main import app

HEAVY = ("torch", "transformers")
CHECK = f"""
import resource, sys
from ser_features_cli.main import run
try:
    run()
finally:
    found = [name for name in {HEAVY!r} if name in sys.modules]
    used = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    print("imported:", *found, "| user seconds:", round(used, 2), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    done = serfeat(
        "bench", "--manifest", good_corpus(folder / "corpus").write(), "--upstreams", "fbank",
        "--store", folder / "features", "--results", folder / "results", "--steps", 2,
        "--lr", 0.01,
    )  # fmt: skip
    assert done.status == 0, done.err
    return folder


@pytest.mark.parametrize(
    "args",
    ["--help", "--version", "extract --help", "bench --help", "upstreams", "corpora", "heads",
     "leaderboard --results results", "leaderboard --results results --format json",
     "leaderboard --results results --format html", "store ls", "store ls --help",
     "store info made/fbank", "store verify", "bench --upstreams fbank",
     "extract --manifest corpus/made.csv --upstreams fbnk"],
)  # fmt: skip
def test_it_starts_without_torch(made: Path, args: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *args.split()],
        capture_output=True, text=True, cwd=made, env=environment(), check=False,
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert last.startswith("imported: | user seconds: "), done.stderr
    sys.stdout.write(f"serfeat {args}: {last}\n")  # pytest -rP tells the time; none is judged
    assert done.returncode == (2 if "fbnk" in args or args.startswith("bench --up") else 0)


def test_what_needs_torch_is_seen_to_import_it(made: Path) -> None:
    args = ("extract", "--manifest", "corpus/made.csv", "--upstreams", "fbank")
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *args],
        capture_output=True, text=True, cwd=made, env=environment(), check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith("imported: torch")


def test_version() -> None:
    assert serfeat("--version").out == f"serfeat {__version__}\n"


def commands() -> list[str]:
    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        found.append(name)
        found += [f"{name} {each}" for each in getattr(command, "commands", {})]
    return found


def test_all_commands_are_there() -> None:
    text = serfeat("--help").out
    assert set(commands()) >= {
        "extract", "bench", "leaderboard", "demo", "upstreams", "corpora", "heads", "protocols",
        "store", "store ls", "store info", "store verify", "store export",
    }  # fmt: skip
    assert all(re.search(rf"│ {name.split()[0]} ", text) for name in commands())


@pytest.mark.parametrize("name", ["", *commands()])
def test_every_command_has_an_example(name: str) -> None:
    done = serfeat(*name.split(), "--help")
    assert done.status == 0
    text = " ".join(done.out.split())
    example = re.search(r"Example: serfeat ([a-z0-9-]+( [a-z]+)?)", text)
    assert example is not None, text
    assert name == "" or example.group(0).startswith(f"Example: serfeat {name}")


@pytest.mark.parametrize("name", commands())
def test_examples_name_only_options_that_exist(name: str) -> None:
    text = serfeat(*name.split(), "--help").out
    example = text.partition("Example: ")[2].partition("╭")[0]
    options = set(re.findall(r"(?<!\S)--[a-z0-9-]+", example))
    listed = set(re.findall(r"--[a-z0-9-]+", text.partition("╭")[2]))
    assert options <= listed or name == "store"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("upstreams", ("fbank", "openai/whisper-base", "microsoft/wavlm-base-plus",
                       "unispeech-sat-base-plus", "facebook/wav2vec2-large-lv60")),
        ("corpora", ("emodb", "iemocap-exp1", "535", "Session{1..5}/", "demo")),
        ("heads", ("superb", "pooled/mean")),
        ("protocols", ("loso", "kfold:K", "official", "emobox", "superb")),
    ],
)  # fmt: skip
def test_lists_can_be_copied_from(name: str, words: tuple[str, ...]) -> None:
    done = serfeat(name)
    assert done.status == 0
    assert all(word in done.out for word in words)
    assert "…" not in done.out.replace("fold_1 …", "")


def test_names_of_feature_sets_are_whole_in_a_narrow_terminal(made: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, "store", "ls"],
        capture_output=True, text=True, cwd=made, env=environment(COLUMNS="50"), check=True,
    )  # fmt: skip
    assert "…" not in done.stdout
    cells = [row.split("│")[1].strip() for row in done.stdout.splitlines() if "│" in row]
    assert re.fullmatch(r"made/fbank/clean-[0-9a-f]{12}", "".join(cells))
