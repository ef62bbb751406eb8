"""Exit statuses, and errors that are one line: what was found, what was expected, what to do."""

import re
import subprocess
from pathlib import Path

import pytest

from cli_runner import Done, command, environment, good_corpus, inside, process, serfeat
from ser_features.store.catalog import list_feature_sets


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, a store and results."""
    folder = tmp_path_factory.mktemp("made")
    manifest = good_corpus(folder / "corpus").write()
    done = bench(folder, "--manifest", manifest)
    assert done.status == 0, done.err
    return folder


def bench(folder: Path, *more: object, results: str = "results") -> Done:
    return serfeat(
        "bench", "--store", folder / "store", "--results", folder / results, "--steps", 2,
        "--lr", 0.01, "--upstreams", "fbank", *more,
    )  # fmt: skip


def extract(folder: Path, *more: object) -> Done:
    return serfeat("extract", "--manifest", folder / "corpus" / "made.csv", *more)


def in_box(done: Done) -> str:
    """The text of click's own usage errors."""
    return " ".join(re.sub("[│─╭╮╰╯]", " ", done.err).split())


UNKNOWN = [
    ("extract", "--corpus", "unknown corpus 'emodv'; did you mean 'emodb'", "emodv=x"),
    ("extract", "--upstreams", "unknown upstream 'fbnk'; did you mean 'fbank'? Known: ", "fbnk"),
    ("extract", "--upstreams", "unknown upstream 'hubert-bse@", "hubert-bse@random:0"),
    ("bench", "--upstreams", "unknown upstream 'fbnk'; did you mean 'fbank'? Known: ", "fbnk"),
    ("bench", "--heads", "unknown head 'supreb'; did you mean 'superb'? Known: ", "supreb"),
    ("bench", "--protocol", "unknown protocol 'lose'; did you mean 'loso'? Known: ", "lose"),
    ("bench", "--recipe", "unknown recipe of superb 'quik'; did you mean 'quick'? Known: ", "quik"),
    ("bench", "--format", "unknown format 'jsn'; did you mean 'json'? Known: csv, html, ", "jsn"),
]


@pytest.mark.parametrize(("command", "option", "text", "value"), UNKNOWN)
def test_unknown_names(made: Path, command: str, option: str, text: str, value: str) -> None:
    args = {"--manifest": made / "corpus" / "made.csv", "--upstreams": "fbank"}
    args |= {"--store": made / "new"}
    args.pop("--manifest" if option == "--corpus" else "", None)
    done = serfeat(command, *(each for pair in (args | {option: value}).items() for each in pair))
    assert done.status == 2
    assert done.error.startswith(text.split("@", maxsplit=1)[0].removesuffix("'"))
    assert done.out == ""
    assert not (made / "new").exists()


def test_unknown_format_of_a_leaderboard(made: Path) -> None:
    done = serfeat("leaderboard", "--results", made / "results", "--format", "markdwon")
    assert done.status == 2
    assert done.error == (
        "unknown format 'markdwon'; did you mean 'markdown'? Known: csv, html, json, latex, "
        "markdown, table"
    )


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "Missing option '--upstreams'"),
        (("--upstreams", "fbank", "--workers", "0"), "Invalid value for '--workers'"),
        (("--upstreams", "fbank", "--batch-seconds", "-3"), "Invalid value for '--batch-seconds'"),
        (("--upstreams", "fbank", "--max-seconds", "-1"), "Invalid value for '--max-seconds'"),
        (("--upstreams", "fbank", "--no-such"), "No such option: --no-such"),
        (("--upstreams", "fbank", "--root", "nowhere"), "Invalid value for '--root'"),
    ],
)
def test_usage_errors_of_options(made: Path, args: tuple[str, ...], text: str) -> None:
    done = extract(made, *args)
    assert done.status == 2
    assert text in in_box(done)
    assert "Try 'serfeat extract --help' for help." in done.err


def test_other_usage_errors(made: Path) -> None:
    manifest = made / "corpus" / "made.csv"
    cases = {
        "--corpus 'emodb': expected NAME=PATH, as in --corpus emodb=/data/emodb": (
            "--corpus", "emodb", "--upstreams", "fbank",
        ),
        "--corpus '=x': expected NAME=PATH, as in --corpus emodb=/data/emodb": (
            "--corpus", "=x", "--upstreams", "fbank",
        ),
        "name what to read: --corpus NAME=PATH or --manifest FILE": ("--upstreams", "fbank"),
        "name at least one upstream, as in --upstreams fbank": (
            "--manifest", manifest, "--upstreams", " , ",
        ),
        "two corpora are called 'made'; name them: --manifest NAME=FILE": (
            "--manifest", manifest, "--manifest", manifest, "--upstreams", "fbank",
        ),
        "'a=/' and 'a=/tmp' would have one name; give each its own: NAME=FOLDER": (
            "--manifest", manifest, "--upstreams", "a=/,a=/tmp",
        ),
        "upstream 'a=./no such': there is no folder no such": (
            "--manifest", manifest, "--upstreams", "a=./no such",
        ),
    }  # fmt: skip
    for text, args in cases.items():
        done = serfeat("extract", *args, "--store", made / "new")
        assert (done.status, done.error) == (2, text)
    assert not (made / "new").exists()
    assert serfeat("frobnicate").status == 2
    done = bench(made, "--manifest", manifest, "--lr", "fast")
    assert (done.status, done.error) == (
        2,
        "--lr 'fast': expected numbers from 0 by commas, or auto",
    )


def test_a_manifest_whose_name_holds_an_equals_sign(tmp_path: Path) -> None:
    manifest = good_corpus(tmp_path, "a").write("set=1.csv")
    with inside(tmp_path):
        done = serfeat("extract", "--manifest", manifest.name, "--upstreams", "mfcc")
        assert done.status == 0, done.err
        done = serfeat("extract", "--manifest", f"my=./{manifest.name}", "--upstreams", "mfcc")
    assert done.status == 0, done.err
    names = [info.name.split("/")[0] for info in list_feature_sets(tmp_path / "features")]
    assert [name.partition("-")[0] for name in names] == ["my", "set"]


def test_missing_and_foreign_folders(made: Path) -> None:
    args = ("--upstreams", "fbank", "--store", made / "new")
    done = serfeat("extract", "--corpus", f"emodb={made / 'no'}", *args)
    assert (done.status, done.error) == (1, f"there is no folder {made / 'no'}")
    done = serfeat("extract", "--corpus", f"emodb={made / 'corpus'}", *args)
    assert done.status == 1
    assert done.error.startswith(f"found no emodb recordings in {made / 'corpus'}; expected wav/")
    done = serfeat("extract", "--manifest", made / "no.csv", *args)
    assert (done.status, done.error) == (1, f"there is no manifest {made / 'no.csv'}")
    done = serfeat("extract", "--manifest", made / "corpus" / "a-sad-0.wav", *args)
    assert done.status == 1
    assert done.error.endswith("a manifest is a folder or one of .csv, .jsonl, .parquet")
    done = extract(made, "--upstreams", "whisper-base=.", "--store", made / "new")
    assert done.status == 1
    assert done.error == "no config.json in .; expected a model folder"
    assert not (made / "new").exists()


def test_no_network(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = extract(made, "--upstreams", "hubert-base", "--store", made / "new")
    assert done.status == 1
    assert done.error == (
        "cannot reach the hub for facebook/hubert-base-ls960 and its cache does not hold it whole; "
        "without a network pass a folder: NAME=FOLDER with config.json, preprocessor_config.json "
        "and model.safetensors"
    )


def test_device_and_precision_that_are_not_there(made: Path) -> None:
    for name in ("abacus", "mps", "cuda:", "meta"):
        done = extract(made, "--upstreams", "fbank", "--device", name, "--store", made / "new")
        assert done.status == 2
        told = f"--device {name!r}: expected cpu, cuda, or one of several as cuda:1"
        assert done.error == told
    done = extract(made, "--upstreams", "fbank", "--precision", "float31", "--store", made / "new")
    assert done.status == 2
    assert done.error == (
        "unknown precision 'float31'; did you mean 'float32' or 'float16' or 'bfloat16'? "
        "Known: bfloat16, float16, float32"
    )


def test_protocols_that_do_not_fit(made: Path) -> None:
    manifest = made / "corpus" / "made.csv"
    texts = {
        "kfold": "protocol 'kfold' is not well formed; expected 'kfold:K'",
        "kfold:9": "kfold:9: the number of folds must be from 2 to the number of speakers, "
        "'made' has 4; say kfold:4",
        "session": "session needs the session of every utterance, 16 of 16 have none "
        "(first: 'a-angry-0'); protocols that need none: loso, kfold:K, official, emobox, superb",
    }
    for protocol, text in texts.items():
        done = bench(made, "--manifest", manifest, "--protocol", protocol)
        assert (done.status, done.error) == (1, text)


def test_what_is_wrong_with_the_last_corpus_shows_before_any_work(made: Path) -> None:
    first, second = made / "corpus" / "made.csv", good_corpus(made / "few", "ab").write("few.csv")
    where = ("--store", made / "new", "--results", made / "new")
    done = serfeat(
        "bench", "--manifest", first, "--manifest", second, "--upstreams", "fbank", *where
    )
    assert done.status == 1
    assert done.error.startswith("loso needs at least 3 speakers (test, dev and train), 'few' has")
    assert not (made / "new").exists()


def test_statuses_and_streams_of_a_process(made: Path) -> None:
    done = process("store", "ls", "store", cwd=made)
    assert (done.status, done.err) == (0, "")
    done = process("store", "info", "nope", "--store", "store", cwd=made)
    assert done.status == 2
    assert re.fullmatch(r"error: unknown feature set 'nope'; [^\n]+\n", done.err)
    done = process("store", "verify", "corpus", cwd=made)
    assert (done.status, done.out) == (1, "")
    assert re.fullmatch(r"error: no feature store at corpus; [^\n]+\n", done.err)


def test_a_terminal_that_knows_ascii_only(made: Path) -> None:
    code = command("leaderboard", "--results", "results")
    env = environment(PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    done = subprocess.run(code, capture_output=True, cwd=made, env=env, check=True)
    assert done.stdout.startswith(b"made ? loso ? angry, sad ? 16 utterances, 4 speakers\n")


def test_a_reader_that_stops(made: Path) -> None:
    with subprocess.Popen(
        command("leaderboard", "--results", "results", "--format", "html"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=made, env=environment(),
    ) as run:  # fmt: skip
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == b""


def test_what_the_system_refuses_is_one_line(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Path) -> bool:
        raise OSError(5, "Input/output error", str(self))

    monkeypatch.setattr(Path, "is_dir", broken)
    done = extract(made, "--upstreams", "fbank", "--store", tmp_path / "new")
    assert done.status == 1
    assert done.error.startswith("[Errno 5] Input/output error: ")
