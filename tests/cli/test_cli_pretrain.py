"""``serfeat pretrain`` and ``bench --init``: from speakers to emotions, on record, again."""

from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from cli_runner import RATE, Done, good_corpus, noise, serfeat
from resnet_factory import thin_shape
from ser_features.corpora.source import ManifestSource
from ser_features.errors import TrainError, UsageError
from ser_features.fingerprint import file_sha256
from ser_features.heads.resnet34 import ResNet34
from ser_features.pretrain import PretrainOptions
from ser_features.results import load_record
from ser_features.studies.spec import Request, make_plan
from ser_features.studies.table import STUDIES
from ser_features.train.checkpoint import Header, read_header, save_checkpoint
from ser_features.train.resnet_recipes import PAPER_UPSTREAM

HEAD = "resnet34-copypaste"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    good_corpus(folder / "corpus").write()
    done = pretrain(folder, "net.safetensors", "--epochs", 2)
    assert done.status == 0, done.err
    assert f"{folder / 'net.safetensors'}: 4 classes from" in " ".join(done.lines)
    return folder


def pretrain(folder: Path, out: str, *args: object) -> Done:
    return serfeat(
        "pretrain", "--manifest", folder / "corpus" / "made.csv", "--head", HEAD,
        "--store", folder / "store", "--out", folder / out, *args,
    )  # fmt: skip


def bench(folder: Path, results: str, *args: object) -> Done:
    return serfeat(
        "bench", "--manifest", folder / "corpus" / "made.csv", "--upstreams", "mfcc",
        "--epochs", 1, "--store", folder / "store", "--results", folder / results, *args,
    )  # fmt: skip


def test_the_checkpoint_says_what_it_is_and_comes_out_the_same_again(made: Path) -> None:
    path = made / "net.safetensors"
    header = read_header(path)
    assert (header.head, header.upstream, header.vad, header.frame_norm) == (
        HEAD, "mfcc", True, "mean",
    )  # fmt: skip
    assert header.classes == tuple(f"made/{one}" for one in "abcd")
    assert header.trained["task"] == "speaker"
    assert header.trained["num_train"] + header.trained["num_dev"] == 16
    assert pretrain(made, "again.safetensors", "--epochs", 2).status == 0
    assert file_sha256(made / "again.safetensors") == file_sha256(path)
    other = pretrain(made, "other.safetensors", "--epochs", 2, "--seed", 1)
    assert other.status == 0
    assert file_sha256(made / "other.safetensors") != file_sha256(path)


def test_augmented_copies_join_the_training_side(made: Path) -> None:
    (made / "noise").mkdir()
    soundfile.write(made / "noise" / "hiss.wav", noise(16_000, seed=9), RATE)
    augment = f"noise:snr=10,folder={made / 'noise'}"
    done = pretrain(made, "aug.safetensors", "--epochs", 1, "--augment", augment, "--copies", 2)
    assert done.status == 0, done.err
    plain, more = (read_header(made / f"{n}.safetensors").trained for n in ("net", "aug"))
    assert more["num_dev"] == plain["num_dev"]
    assert more["num_train"] == 3 * plain["num_train"]
    assert (more["augment"], more["copies"], more["augment_seed"]) == ([augment], 2, 0)


def test_bench_starts_from_it_and_the_record_runs_again(made: Path) -> None:
    init = made / "net.safetensors"
    for results, args in (("new", ("--init-train", "new")), ("all", ())):
        done = bench(made, results, "--heads", HEAD, "--init", init, *args)
        assert done.status == 0, done.err
        (path,) = (made / results).rglob(f"mfcc--{HEAD}--*.json")
        training = load_record(path).config["training"]
        assert training["init"] == file_sha256(init)
        assert training["init_train"] == results
        assert "has heard the test speakers" in " ".join(load_record(path).notes)
        assert serfeat("rerun", path).status == 0
    done = bench(made, "none", "--heads", HEAD)
    keys = {load_record(p).key for p in made.rglob(f"mfcc--{HEAD}--*.json")}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("study", "head"), [("copypaste", HEAD), ("spectrogram", "resnet34-transfer")]
)
def test_the_plain_command_fits_the_study_of_the_heads_paper(
    made: Path, tmp_path: Path, study: str, head: str
) -> None:
    """As ``pretrain`` saves it, but for the training."""
    path, config = tmp_path / "net.safetensors", PretrainOptions(head=head).config()
    shape = thin_shape(head, 8, 3, config.pooling)
    names = (PAPER_UPSTREAM[head], config.vad, config.frame_norm, ("a", "b", "c"), {})
    save_checkpoint(path, ResNet34(shape), Header(head, shape, "f" * 64, *names))
    (made / "hiss").mkdir(exist_ok=True)
    soundfile.write(made / "hiss" / "hiss.wav", noise(16_000, seed=9), RATE)
    request = Request(
        (ManifestSource("manifest", "made", str(made / "corpus" / "made.csv")).read(),),
        labels=("angry", "sad"), protocol="kfold:2", init=str(path),
    )  # fmt: skip
    own = replace(request, noise=made / "hiss") if study == "copypaste" else request
    make_plan(STUDIES[study], own)
    if study == "copypaste":
        with pytest.raises(TrainError, match=f"say --head {HEAD} --upstream mfcc --vad --frame-no"):
            make_plan(STUDIES["spectrogram"], request)
    with pytest.raises(UsageError, match="study upstreams does not take --init"):
        make_plan(STUDIES["upstreams"], request)


def test_another_recipe_than_the_heads(made: Path) -> None:
    done = pretrain(made, "recipe.safetensors", "--recipe", "transfer", "--epochs", 1)
    assert done.status == 0, done.err
    header = read_header(made / "recipe.safetensors")
    assert (header.head, header.vad, header.frame_norm) == (HEAD, False, "mean-variance")
    done = pretrain(made, "wrong.safetensors", "--recipe", "quick")
    assert "copypaste, transfer" in done.error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--heads", "superb", "--vad"), "--vad: only resnet34 heads take it"),
        (("--heads", HEAD, "--init-train", "all"), "--init-train says what an --init checkpoint"),
        (
            ("--heads", HEAD, "--cache-augment", "layer-mask"),
            "reads a spectrogram, which has no layers to mask",
        ),
        (("--heads", HEAD, "--pooling", "max"), "pooling must be one of attention"),
        (
            ("--heads", HEAD, "--no-vad", "--init", "net.safetensors"),
            "say --vad, or pretrain another",
        ),
        (("--heads", HEAD, "--init", "corpus/made.csv"), "cannot read the checkpoint"),
        (("--heads", HEAD, "--upstreams", "mfcc,whisper-tiny"), "'whisper-tiny' is none"),
    ],
)
def test_what_makes_no_sense_is_said(
    made: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(made)
    done = bench(made, "errors", *args)
    assert done.status in (1, 2)
    assert message in done.error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--task", "language"), "task must be one of speaker, emotion, found 'language'"),
        (("--dev-share", "1"), "the dev share must lie between 0 and 1"),
        (("--head", "mlp"), "head 'mlp' cannot be pretrained"),
        (("--upstream", "fbank"), "voice activity detection needs the energy"),
        (("--out", "corpus/made.csv/net.safetensors"), "cannot write corpus/made.csv/net.safe"),
    ],
)
def test_pretraining_that_makes_no_sense_is_said(
    made: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(made)
    done = pretrain(made, "wrong.safetensors", *args)
    assert done.status in (1, 2)
    assert message in done.error
    assert not (made / "wrong.safetensors").exists()


def test_speakers_must_be_known(made: Path, tmp_path: Path) -> None:
    lines = (made / "corpus" / "made.csv").read_text().splitlines()
    place = lines[0].split(",").index("speaker")
    cells = lines[1].split(",")
    cells[place] = ""
    text = "\n".join([lines[0], ",".join(cells), *lines[2:]])
    (made / "corpus" / "lacking.csv").write_text(text + "\n")
    done = serfeat(
        "pretrain", "--manifest", made / "corpus" / "lacking.csv", "--upstream", "mfcc",
        "--head", HEAD, "--store", tmp_path / "store", "--out", tmp_path / "x.safetensors",
    )  # fmt: skip
    assert (done.status, "1 of 16 utterances have no speaker" in done.error) == (1, True)


def test_two_corpora_train_together_and_their_speakers_stay_apart(made: Path) -> None:
    second = good_corpus(made / "second", speakers="ab").write("second.csv")
    done = pretrain(made, "two.safetensors", "--epochs", 1, "--manifest", second)
    assert done.status == 0, done.err
    header = read_header(made / "two.safetensors")
    assert header.classes == (*(f"made/{s}" for s in "abcd"), "second/a", "second/b")
    assert header.trained["corpora"] == ["made", "second"]
    assert header.trained["num_train"] + header.trained["num_dev"] == 24
