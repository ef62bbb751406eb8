"""Each study from end to end on made-up corpora, as the paper's rows and columns."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from cli_runner import serfeat
from fake_upstream import use_fake
from ser_features.errors import UsageError
from ser_features.extract import pipeline
from ser_features.studies import cost
from ser_features.studies.outputs import study_csv, study_document, study_json
from ser_features.studies.published import read_paper
from ser_features.studies.run import run_study
from ser_features.studies.spec import Request, Trial, make_plan
from ser_features.studies.table import STUDIES
from ser_features.train.resnet_recipes import ResNetOptions
from study_factory import four_emotions, manifest_of, noise_folder


@pytest.fixture
def iemocap(tmp_path: Path) -> Any:
    """A made-up corpus under the name of a published one, with six sessions' worth of speakers."""
    return manifest_of(four_emotions(tmp_path / "iemocap", speakers=6), "iemocap")


@pytest.fixture
def other(tmp_path: Path) -> Any:
    return manifest_of(four_emotions(tmp_path / "other", speakers=6, seed=50), "other")


@pytest.fixture(autouse=True)
def priced(monkeypatch: Any) -> None:
    """A dry run loads what the study loads, fake or not."""
    monkeypatch.setattr(cost, "load_upstream", lambda *a, **k: pipeline.load_upstream(*a, **k))


def trainings(name: str, request: Request, tmp_path: Path) -> list[tuple[str, ...]]:
    """The rows of a dry run's trainings, the sum last."""
    where = (tmp_path / "store", tmp_path / "results")
    *_, grid = cost.dry_run(STUDIES[name], request, *where).blocks
    assert len({row[0] for row in grid.rows}) == len(grid.rows), "every training has a name"
    return list(grid.rows)


def check(name: str, request: Request, tmp_path: Path) -> Any:
    *rows, total = trainings(name, request, tmp_path)
    assert {row[2] for row in rows} == {"features first"}
    assert total[2] == f"0 of {total[1]}"
    outcome = run_study(STUDIES[name], request, tmp_path / "store", tmp_path / "results")
    *rows, total = trainings(name, request, tmp_path)
    assert total[2] == f"{total[1]} of {total[1]}"
    assert {row[3] for row in rows} == {"nothing to do"}
    for table in outcome.tables:
        assert set(table.cells) == set(table.spec.entries), table.spec.name
        assert {row for row, _ in table.cells} == set(table.spec.rows)
        assert {column for _, column in table.cells} == set(table.spec.columns)
    cells = list(csv.DictReader(study_csv(outcome).splitlines()))
    assert len(cells) == sum(len(table.cells) for table in outcome.tables)
    text = json.loads(study_json(outcome))
    assert len(text["cells"]) == len(cells)
    assert len(text["records"]) == len(set(text["records"]))
    names = [figure.name for figure in study_document(outcome).figures]
    assert len(names) == len(set(names))
    return outcome


def test_upstreams(iemocap: Any, tmp_path: Path, monkeypatch: Any) -> None:
    use_fake(monkeypatch)
    request = Request((iemocap,), ("data2vec-base", "hubert-base"), recipe="quick", steps=2)
    outcome = check("upstreams", request, tmp_path)
    (table,) = outcome.tables
    assert table.spec.rows == ("data2vec-base", "hubert-base")
    assert table.spec.published is not None
    assert table.spec.published.value("hubert-base", "wa") == pytest.approx(0.6492)
    assert {r.protocol for r in outcome.records} == {"session"}
    from ser_features.report.document import as_markdown

    words = as_markdown(study_document(outcome))
    assert "| wa | wa, paper |" in words
    assert "64.9" in words
    assert "wavlm-base-plus" in words, "rows of the paper that were not run are there too"
    assert "deviation: 2 updates or epochs as asked" in words
    assert "| hubert-base | LS 960 hr | 0.00 | 94.68 |" in words, "the fake is tiny"
    # runs that another command adds to a record do not change the table
    where = (tmp_path / "store", tmp_path / "results")
    more = run_study(STUDIES["upstreams"], replace(request, seeds=3), *where)
    again = run_study(STUDIES["upstreams"], request, *where)
    assert [r.scores for r in again.records] == [r.scores for r in outcome.records]
    assert all(len(m.scores) == 3 * len(r.scores) for m, r in zip(more.records, again.records,
                                                                strict=True))  # fmt: skip


def test_synthetic(iemocap: Any, other: Any, tmp_path: Path, monkeypatch: Any) -> None:
    use_fake(monkeypatch)
    request = Request((iemocap, other), ("fake",), steps=10, ratios=(0.25, 0.5))
    outcome = check("synthetic", request, tmp_path)
    ways, layers, amounts = outcome.tables
    paper = read_paper("ptm-llm-tts")
    assert ways.spec.rows == tuple(paper.table("Table 3").rows)
    assert set(layers.spec.rows) <= set(paper.table("Table 4").rows)
    assert amounts.spec.rows == ("0", "0.25", "0.5")
    # one training each: the baseline is in all three tables, curriculum 1:2 in two
    assert len(outcome.plan.trials) == 1 + 4 + 1 + 1 + 1 + 1
    assert {r.strategy for r in outcome.records} > {"", "mix other"}
    (heard,) = outcome.remarks
    assert "mlp · adversarial other" in heard
    assert "tells added from real data with a balanced accuracy of " in heard
    assert heard in str(study_document(outcome).blocks[-1])
    with pytest.raises(UsageError, match="takes two corpora"):
        STUDIES["synthetic"].plan(replace(request, manifests=(iemocap,)))


def test_copypaste(iemocap: Any, tmp_path: Path, monkeypatch: Any) -> None:
    use_fake(monkeypatch)
    request = Request(
        (iemocap,), ("fake",), head="superb", steps=2, seeds=2, copies=1,
        noise=noise_folder(tmp_path / "noise"),
    )  # fmt: skip
    outcome = check("copypaste", request, tmp_path)
    assert [table.spec.title.partition(":")[0] for table in outcome.tables] == [
        "Table 2", "Table 5", "Table 6", "Table 4"
    ]  # fmt: skip
    paper = read_paper("copypaste").table("Table 2")
    assert paper is not None
    assert outcome.tables[0].spec.columns == paper.columns
    assert outcome.tables[0].spec.rows == tuple(paper.rows)
    assert {r.condition for r in outcome.records} == {"clean", "noise-10db", "noise-0db"}
    assert len(outcome.plan.trials) == 8, "eight trainings, each tested three times"
    sizes = {r.augmentation: r.scores[0].num_train for r in outcome.records}
    assert sizes["noise-10or5or0db"] == 2 * sizes["clean"]
    with pytest.raises(UsageError, match="--noise"):
        STUDIES["copypaste"].plan(replace(request, noise=None))
    with pytest.raises(UsageError, match="1 to 4"):
        STUDIES["copypaste"].plan(replace(request, copies=9))


def test_four_of_five_rows_are_pasted_as_often_noisy_as_not(iemocap: Any, tmp_path: Path) -> None:
    noise = noise_folder(tmp_path / "noise")
    request = Request((iemocap,), ("mfcc",), noise=noise, paste="waveform")
    for trial in STUDIES["copypaste"].plan(request).trials:
        rows = [("clean",), *((text,) for text in trial.augment for _ in range(trial.copies))]
        pasted = [text for (text,) in rows if "copypaste" in text]
        noisy = [text for (text,) in rows if "noise:" in text]
        if pasted:
            assert len(pasted) == pytest.approx(0.8 * len(rows))
        if noisy and pasted:
            both = [text for text in pasted if "noise:" in text]
            assert len(both) / len(pasted) == pytest.approx(len(noisy) / len(rows))


def test_the_papers_network_pastes_anew_in_four_of_five_minibatches(
    iemocap: Any, tmp_path: Path
) -> None:
    request = Request((iemocap,), noise=noise_folder(tmp_path / "n"), music=tmp_path / "m")
    plan = STUDIES["copypaste"].plan(request)
    assert len(plan.trials) == 8
    for (data, paste), entry in plan.tables[0].entries.items():
        trial = entry.trial
        assert isinstance(trial, Trial)
        steps = trial.training.cache_steps(trial.head)
        names = {"none": [], "SE-CP": ["se"], "N-CP": ["n"], "N+SE-CP": ["n+se"]}[paste]
        assert [(s.name, s["share"]) for s in steps] == [(f"copypaste-{n}", 0.8) for n in names]
        kinds = [text.partition(",")[0] for text in trial.augment]
        six = [f"{kind}:snr={snr}" for kind in ("noise", "music") for snr in (10, 5, 0)]
        assert (kinds, trial.copies) == (six if data == "clean+noise" else [], 1)
    assert not any("before training" in each for each in plan.deviations)
    assert any("no Table 3" in each for each in plan.deviations)
    pooled = STUDIES["copypaste"].plan(replace(request, head="superb", paste="cache"))
    assert any("whole, without crops" in each for each in pooled.deviations)
    with pytest.raises(UsageError, match="unknown way to paste 'both'"):
        STUDIES["copypaste"].plan(replace(request, paste="both"))
    with pytest.raises(UsageError, match="study upstreams does not take --noise"):
        make_plan(STUDIES["upstreams"], request)


def test_paper_2s_tables_of_both_networks(iemocap: Any, tmp_path: Path) -> None:
    noise = noise_folder(tmp_path / "n")
    plan = STUDIES["copypaste"].plan(Request((iemocap,), noise=noise, init="x.safetensors"))
    tables = {table.title.partition(":")[0]: table for table in plan.tables}
    assert list(tables) == [f"Table {number}" for number in (2, 3, 5, 6, 4)]
    inits = {
        name: {entry.trial.training.resnet.init for entry in table.entries.values()}
        for name, table in tables.items()
    }
    assert inits.pop("Table 2") == {None}
    assert all(found == {"x.safetensors"} for found in inits.values())
    assert len(plan.trials) == 16
    published = tables["Table 3"].published
    assert published is not None
    assert published.value("clean", "none") == pytest.approx(0.6118)


def test_domain_mismatch(iemocap: Any, other: Any, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("pedalboard", reason="needs the extra 'augment'")
    use_fake(monkeypatch)
    request = Request(
        (iemocap, other), ("fake",), head="superb", protocol="kfold:2", steps=20, copies=1
    )
    outcome = check("domain-mismatch", request, tmp_path)
    names = [table.spec.name for table in outcome.tables]
    assert names[:4] == ["table1-fake", "figure2-fake-iemocap", "figure2-fake-other",
                         "figure2-fake-iemocap + other"]  # fmt: skip
    assert outcome.tables[1].spec.rows[1:] == ("0%", "20%", "50%", "70%", "100%")
    assert {each.condition for each in outcome.conditions} == {"as recorded", "mismatch-7"}
    assert outcome.tables[1].spec.published is not None


def test_spectrogram(iemocap: Any, tmp_path: Path) -> None:
    # the tables and figures, with a head that is quick; the network itself is tested elsewhere
    request = Request((iemocap,), head="superb", recipe="quick", steps=2)
    outcome = check("spectrogram", request, tmp_path)
    table, ablation = outcome.tables
    assert table.spec.rows[-1] == "proposed"
    assert table.spec.published is not None
    assert ablation.spec.rows == ("none", "SP", "Aug", "Aug+SP")
    assert list(outcome.confusions) == ["Exp 1, iemocap, logmel"]
    assert any("lacks labels of Exp 2, Exp 3" in each for each in outcome.plan.deviations)


def test_the_ablation_of_paper_4_is_every_combination(iemocap: Any) -> None:
    excited = tuple(
        structs.replace(u, label="excited") if u.speaker == "s0" and u.label == "happy" else u
        for u in iemocap.utterances
    )
    every = replace(iemocap, utterances=excited)
    plan = STUDIES["spectrogram"].plan(Request((every,), init="speakers.safetensors"))
    tables = {table.title.partition(" on ")[0]: table for table in plan.tables}
    assert [name for name in tables if name.startswith("Table 3")] == [
        f"Table 3: Exp {i}" for i in (1, 2, 3)
    ]
    ablation = tables["Fig. 4: parts of the system, Exp 3"]
    assert len(ablation.rows) == 8
    for row in ablation.rows:
        training = ablation.entries[row, "wa"].trial.training.resnet
        assert (training.init is not None) == ("TL" in row)
        assert training.init_train == ("new" if "TL" in row else None)
        assert training.spec_augment == ("aggressive" if "Aug" in row else "none")
        assert training.pooling == ("statistics" if "SP" in row else "mean")
    proposed = tables["Table 3: Exp 3"].entries["proposed", "wa"]
    assert proposed.trial == ablation.entries["TL+Aug+SP", "wa"].trial, "trained once"


def test_what_was_asked_of_the_network_is_in_every_training_and_said(iemocap: Any) -> None:
    plain = ResNetOptions()
    asked = ResNetOptions(vad=True, init_train="all", precision="bfloat16")
    request = Request((iemocap,), init="speakers.safetensors", resnet=asked, select="last")
    plan = STUDIES["spectrogram"].plan(request)
    for trial in plan.trials:
        found = trial.training.resnet
        assert (found.vad, found.precision) == (True, "bfloat16")
        assert found.init_train == (None if found.init is None else "all")
        assert trial.training.select == "last"
    assert {"vad True as asked", "precision bfloat16 as asked"} <= set(plan.deviations)
    varied = replace(request, resnet=ResNetOptions(pooling="mean"))
    with pytest.raises(UsageError, match="compares what --pooling asks for"):
        STUDIES["spectrogram"].plan(varied)
    for wrong in (replace(request, init=None), replace(request, head="superb", resnet=plain)):
        with pytest.raises(UsageError, match="--init"):
            make_plan(STUDIES["spectrogram"], wrong)


def test_dry_run_does_nothing_and_says_what_it_would(
    iemocap: Any, other: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    use_fake(monkeypatch)
    request = Request((iemocap, other), ("fake",), protocol="kfold:2", steps=2)
    where = (tmp_path / "store", tmp_path / "results")
    from ser_features.report.document import as_markdown

    before = as_markdown(cost.dry_run(STUDIES["cross-corpus"], request, *where))
    assert not where[0].exists()
    assert not where[1].exists()
    assert "| iemocap | fake | clean | 0 | 24 |" in before
    assert "no record of this head yet" in before
    run_study(STUDIES["cross-corpus"], request, *where)
    after = as_markdown(cost.dry_run(STUDIES["cross-corpus"], request, *where))
    assert "| iemocap | fake | clean | 24 | 0 | nothing to do |" in after
    assert "no record" not in after


def test_dry_run_counts_what_is_on_record(
    iemocap: Any, other: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    use_fake(monkeypatch)
    request = Request((iemocap, other), ("fake",), steps=10, ratios=(0.25,))
    run_study(STUDIES["synthetic"], request, tmp_path / "store", tmp_path / "results")
    paths = list((tmp_path / "results").rglob("fake--mlp--*.json"))
    for path in sorted(paths)[:2]:
        path.unlink()
    rows = trainings("synthetic", request, tmp_path)
    assert sorted(row[2] for row in rows[:-1]) == ["0 of 3"] * 2 + ["3 of 3"] * (len(paths) - 2)
    assert rows[-1][1:3] == (f"{3 * len(paths)}", f"{3 * len(paths) - 6} of {3 * len(paths)}")
    more = trainings("synthetic", replace(request, seeds=2), tmp_path)
    assert sorted(row[2] for row in more[:-1]) == ["0 of 6"] * 2 + ["3 of 6"] * (len(paths) - 2)
    iemocap.utterances[0].path.write_bytes(iemocap.utterances[1].path.read_bytes())
    assert {row[2] for row in trainings("synthetic", request, tmp_path)[:-1]} == {"features first"}


def test_commands(tmp_path: Path) -> None:
    listed = serfeat("studies")
    assert listed.status == 0
    assert all(name in listed.out.replace("\n", "") for name in ("upstreams", "spectrogram"))
    assert "Pappagari et al.:" in listed.out
    path = four_emotions(tmp_path / "c", speakers=4).write()
    args = ("--manifest", f"made={path}", "--upstreams", "fbank", "--recipe", "quick",
            "--steps", 2, "--store", tmp_path / "s", "--results", tmp_path / "r")  # fmt: skip
    dry = serfeat("study", "upstreams", *args, "--dry-run")
    assert dry.status == 0, dry.err
    assert "To extract" in dry.out
    assert not (tmp_path / "s").exists()
    done = serfeat("study", "upstreams", *args, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert "deviation: made has no sessions" in done.out
    for suffix in ("md", "html", "csv", "json"):
        assert (tmp_path / "out" / f"upstreams.{suffix}").stat().st_size > 100
    assert (tmp_path / "out" / "table1-made.svg").read_text().startswith("<svg")
    assert "did you mean 'upstreams'" in serfeat("study", "upstream", *args).error
    told = serfeat("study", "upstreams", *args, "--out", path).err  # in a frame, wrapped anywhere
    assert "is a file" in " ".join(told.replace("│", " ").split())
    spark = serfeat("study", "upstreams", *args, "--engine", "spark", "--dry-run")
    assert "unknown engine 'spark'" in spark.error
    one = serfeat("study", "upstreams", *args, "--labels", "angry", "--dry-run")
    assert "needs two labels or more, found angry" in one.error
    wrong = serfeat("study", "cross-corpus", *args, "--swap", "neutral")
    assert "expected two labels" in wrong.error
