"""The commands for IEMOCAP, CREMA-D and MSP-Podcast, on made-up trees of their layouts."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import soundfile

from cli_runner import Corpus, noise, serfeat
from ser_features.corpora.source import ManifestSource
from ser_features.studies.spec import Plan, Request
from ser_features.studies.table import STUDIES
from study_factory import noise_folder

CODES = ("ang", "hap", "exc", "neu", "sad")


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(4800, seed, 0.05 * (1 + seed % 5)), 16000)


def iemocap(root: Path) -> Path:
    """Five sessions of two speakers, every label once a speaker."""
    turns: dict[str, list[str]] = defaultdict(list)
    seed = 0
    for number in range(1, 6):
        for speaker in "FM":
            for code in CODES:
                dialogue = f"Ses0{number}F_impro01"
                name = f"{dialogue}_{speaker}{len(turns[dialogue]):03}"
                wav = root / f"Session{number}" / "sentences" / "wav" / dialogue / f"{name}.wav"
                write(wav, seed := seed + 1)
                turns[dialogue].append(f"[6.29 - 8.23]\t{name}\t{code}\t[2.5, 2.5, 2.5]\n")
    for dialogue, lines in turns.items():
        labels = root / f"Session{dialogue[4]}" / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
                          + "".join(lines))  # fmt: skip
    return root


def cremad(root: Path) -> Path:
    for actor in range(1001, 1007):
        for k, code in enumerate(("ANG", "HAP", "NEU", "SAD")):
            write(root / "AudioWAV" / f"{actor}_DFA_{code}_XX.wav", actor + 10 * k)
    return root


def msp_podcast(folder: Path) -> Path:
    """A manifest with the corpus's own split, and paper 2's fifth class."""
    corpus = Corpus(folder)
    for i, side in enumerate(("train", "train", "dev", "test")):
        for k, label in enumerate(("angry", "happy", "neutral", "sad", "disgust")):
            for take in range(2):
                name = f"p{i}-{label}-{take}"
                corpus.record(name, noise(4800, 100 * i + 10 * k + take), label=label,
                              speaker=f"p{i}")  # fmt: skip
                corpus.rows[-1]["split"] = side
    return corpus.write(columns=("id", "path", "label", "speaker", "split"))


def test_iemocap_beside_the_published_numbers(tmp_path: Path) -> None:
    done = serfeat(
        "study", "upstreams", "--corpus", f"iemocap={iemocap(tmp_path / 'i')}", "--allow-partial",
        "--upstreams", "logmel,fbank", "--recipe", "quick", "--steps", 2, "--protocol", "session",
        "--store", tmp_path / "s", "--results", tmp_path / "r", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "wa, paper" in done.out
    words = (tmp_path / "out" / "upstreams.md").read_text()
    assert "| data2vec-base |  | 68.0 |  |" in words
    assert "protocol session instead of leaving one session out" in words


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ("copypaste", ["cremad", "msp-podcast", "noise-0db", "copypaste-n+se"]),
        ("cross-corpus", ["cremad + msp-podcast"]),
        ("spectrogram", ["lacks labels of Exp 2, Exp 3"]),
        ("upstreams", ["kfold:5"]),
    ],
)
def test_plans_over_cremad_and_msp_podcast(tmp_path: Path, study: str, said: list[str]) -> None:
    upstream = "logmel" if study == "spectrogram" else "mfcc"
    common = ["--protocol", "kfold:2"] if study == "cross-corpus" else []
    more = ["--noise", noise_folder(tmp_path / "noise")] if study == "copypaste" else []
    done = serfeat(
        "study", study, "--corpus", f"cremad={cremad(tmp_path / 'c')}", "--allow-partial",
        "--manifest", f"msp-podcast={msp_podcast(tmp_path / 'm')}", "--upstreams", upstream,
        "--store", tmp_path / "s", "--results", tmp_path / "r", "--dry-run", *common, *more,
    )  # fmt: skip
    assert done.status == 0, done.err
    out = " ".join(done.out.split())
    assert all(each in out for each in said), out
    assert not (tmp_path / "r").exists()


def planned(tmp_path: Path, study: str, name: str, **more: Any) -> Plan:
    """A study's plan on the IEMOCAP tree, read as the command reads ``--corpus NAME=PATH``."""
    source = ManifestSource("corpus", name, str(iemocap(tmp_path / name)), allow_partial=True)
    inputs = {"sources": {name: source.to_json()}}
    request = Request((source.read(), *more.pop("others", ())), inputs=inputs, **more)
    return STUDIES[study].plan(request)


def test_paper_4s_experiments_are_of_the_classes_they_name(tmp_path: Path) -> None:
    # SUPERB's four classes are Exp 3: never beside the numbers of Exp 1
    merged = planned(tmp_path, "spectrogram", "iemocap")
    (table,) = (t for t in merged.tables if t.name.startswith("table3"))
    assert "Exp 3" in table.title
    assert table.published is not None
    assert table.published.value("proposed", "uar") == pytest.approx(0.6414)
    assert any("Exp 3 only; iemocap-all has all three" in each for each in merged.deviations)
    every = planned(tmp_path, "spectrogram", "iemocap-all")
    tables = [t for t in every.tables if t.name.startswith("table3")]
    found = [t.published.value("proposed", "uar") for t in tables if t.published]
    assert found == pytest.approx([0.6161, 0.6556, 0.6414])
    assert not any("excited" in each for each in every.deviations)


def test_what_excited_counts_as_is_said_where_it_differs_from_the_paper(tmp_path: Path) -> None:
    noise = {"noise": noise_folder(tmp_path / "noise")}
    merged = planned(tmp_path, "copypaste", "iemocap", **noise)
    assert any(each.startswith("iemocap counts excited as happy") for each in merged.deviations)
    plain = planned(tmp_path, "copypaste", "iemocap-exp1", **noise)
    assert not any("excited" in each for each in plain.deviations)
    published = plain.tables[0].published
    assert published is not None
    assert published.value("clean", "N-CP") == pytest.approx(0.4419)
    superb = planned(tmp_path, "upstreams", "iemocap", upstreams=("fbank",))
    assert not any("excited" in each for each in superb.deviations), "paper 1 merges them too"
    lacking = planned(tmp_path, "upstreams", "iemocap-exp1", upstreams=("fbank",))
    assert any("no label excited: not in iemocap-exp1" in each for each in lacking.deviations)


def test_figure_3_has_the_papers_columns(tmp_path: Path) -> None:
    trees = (("corpus", "cremad", cremad(tmp_path / "c")),
             ("manifest", "msp-podcast", msp_podcast(tmp_path / "m")))  # fmt: skip
    others = [ManifestSource(k, n, str(p), allow_partial=True).read() for k, n, p in trees]
    plan = planned(
        tmp_path, "domain-mismatch", "iemocap-exp1", others=others, protocol="kfold:2"
    )  # fmt: skip
    tables = {t.title.partition(", ")[0]: t for t in plan.tables if t.name.startswith("figure3")}
    for trained, rate, change in (
        ("msp-podcast", "20%", -0.42),
        ("iemocap-exp1-scrambled", "100%", -0.10),
        ("iemocap-exp1-scrambled + msp-podcast", "100%", -0.09),
    ):
        table = tables[f"Fig. 3: trained on {trained}"]
        assert table.columns == ("iemocap-exp1-scrambled", "cremad", "msp-podcast")
        assert table.published is not None
        assert table.published.value(rate, table.columns[0]) == change


def test_paper_2s_classes_and_splits(tmp_path: Path) -> None:
    path = msp_podcast(tmp_path / "m")
    manifest = ManifestSource("manifest", "msp-podcast", str(path)).read()
    request = Request((manifest,), noise=noise_folder(tmp_path / "noise"))
    plan = STUDIES["copypaste"].plan(request)
    assert {trial.protocol for trial in plan.trials} == {"official"}
    assert {trial.seeds for trial in plan.trials} == {3}
    assert {trial.head for trial in plan.trials} == {"resnet34-copypaste"}
    assert all(len(trial.labels) == 5 for trial in plan.trials)
    assert plan.tables[0].published is not None
    assert plan.tables[0].published.value("clean", "SE-CP") == pytest.approx(0.4834)
