"""What joins a corpus: rows enter a side by their fold alone, and nothing is left out silently."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fake_features import FakeFeatures
from ser_features.audit import audit
from ser_features.errors import UsageError
from ser_features.folds import FoldPlan
from ser_features.manifest import Manifest
from ser_features.mixture import Mixture, map_labels
from ser_features.records import Fold, Source, Utterance
from ser_features.results import run_key
from ser_features.runs import Run, Task
from ser_features.train.run import Training
from ser_features.train.strategies import Strategy, take_ratio

IDS = tuple(f"u{i}" for i in range(9))
LABELS = ("angry", "neutral", "sad")


def manifest_of(ids: tuple[str, ...] = IDS, corpus: str = "toy") -> Manifest:
    utterances = (
        Utterance(name, Path(f"{name}.wav"), LABELS[i % 3], f"s{i // 3}")
        for i, name in enumerate(ids)
    )
    return Manifest(corpus, tuple(utterances), label_order=LABELS)


class StoredFake(FakeFeatures):
    """A fake feature set with the sources that a store keeps."""

    def __init__(self, ids: tuple[str, ...], partners: dict[str, str] | None = None) -> None:
        rng = np.random.default_rng(len(ids))
        super().__init__({i: rng.normal(size=(3, 2, 4)).astype(np.float32) for i in ids})
        known = partners or {}
        drawn = {i: f'{{"partner":"{known[i]}"}}' if i in known else "" for i in ids}
        self.sources = {i: Source(i, f"{i}.wav", 1, 1, "0" * 64, draw=drawn[i]) for i in ids}
        self.audio_sha256 = tuple(f"{i:>064}" for i in ids)


def task_of(folds: tuple[Fold, ...], manifest: Manifest | None = None) -> Task:
    manifest = manifest or manifest_of()
    plan = FoldPlan("own", folds, (), False)
    return Task(manifest, plan, 0, audit(folds, manifest.utterances))


FOLDS = tuple(
    Fold(f"f{k}", tuple(i for i in IDS if int(i[1]) % 3 == k), (IDS[(k + 1) % 3],),
         tuple(i for i in IDS if int(i[1]) % 3 == (k + 2) % 3))
    for k in range(3)
)  # fmt: skip


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(IDS), st.sampled_from(IDS)), st.sampled_from([0.0, 0.5]))
def test_a_copy_is_where_its_utterances_are(partners: dict[str, str], rate: float) -> None:
    copies = {"paste": StoredFake(IDS, partners), "noise": StoredFake(IDS)}
    mixed = Mixture(StoredFake(IDS), copies).join(task_of(FOLDS), Training(rate=rate), ["clean"])
    left = 0
    for fold, plain in zip(mixed.task.plan.folds, FOLDS, strict=True):
        train = set(plain.train)
        allowed = {f"{i}@noise" for i in train}
        allowed |= {f"{i}@paste" for i in train if partners.get(i, i) in train}
        left += 2 * len(train) - len(allowed)
        assert set(fold.copies if rate else fold.train) - train == allowed
        assert (fold.dev, fold.test) == (plain.dev, plain.test)
        assert bool(fold.copies) == bool(rate)
    notes = " ".join(mixed.task.plan.notes)
    assert (f"{left} copies are left out" in notes) if left else not notes
    assert mixed.task.facts.copy_of["u1@paste"] == "u1"


def test_what_is_not_in_the_store_is_counted() -> None:
    mixture = Mixture(StoredFake(IDS), {"noise": StoredFake(IDS[:4])})
    mixed = mixture.join(task_of(FOLDS), Training(), ["clean"])
    assert mixed.task.plan.notes == (
        "5 copies are left out, over all folds: noise: not in the store",
    )


def test_conditions_are_test_rows_of_one_training() -> None:
    noisy = StoredFake(IDS)
    mixture = Mixture(StoredFake(IDS), {"noise-10db": noisy}, {"noise-10db": noisy})
    task = mixture.join(task_of(FOLDS), Training(), ["clean", "noise-10db"]).task
    fold = task.plan.folds[0]
    assert fold.test == (*FOLDS[0].test, *(f"{i}@noise-10db" for i in FOLDS[0].test))
    assert set(fold.train) == {*FOLDS[0].train, *(f"{i}@noise-10db" for i in FOLDS[0].train)}
    for condition in ("clean", "noise-10db"):
        assert [f.test for f in task.folds_of(condition)] == [f.test for f in FOLDS]
    assert task.truth["u1@noise-10db"] == task.truth["u1"]
    assert task.augmentation == "noise-10db"


@pytest.mark.parametrize("where", ["copies", "condition"])
def test_the_key_of_a_run_knows_what_was_joined(where: str) -> None:
    """Where the partner's audio is that of a row of the corpus, the key is as it always was."""
    partners = dict.fromkeys(IDS[1:], "u9" if where == "condition" else IDS[0])

    def key(heard: str | None) -> str:
        paste = StoredFake(IDS, partners)
        if heard is not None:
            paste.sources = {
                i: structs.replace(s, partner=Source(partners[i], "p.wav", 1, 1, heard))
                if i in partners
                else s
                for i, s in paste.sources.items()
            }
        if where == "copies":
            mixture = Mixture(StoredFake(IDS), {"paste": paste})
        else:
            mixture = Mixture(StoredFake(IDS), conditions={"paste": paste})
        condition = "clean" if where == "copies" else "paste"
        mixed = mixture.join(task_of(FOLDS), Training(), [condition])
        run = Run(mixed.task, mixed.features, "superb", 1, Training(), Path("results"))
        return run_key(run._config("superb", condition))

    own = f"{partners[IDS[1]]:>064}"
    keys = [key(heard) for heard in (None, own, "1" * 64, "2" * 64)]
    known = where == "copies"  # u9 is not in the corpus
    assert len(set(keys)) == (3 if known else 4)
    assert (keys[0] == keys[1]) == known


def test_another_corpus_is_on_every_training_side_only() -> None:
    other = manifest_of(("a", "b", "c", "d"), "tts")
    mixture = Mixture(StoredFake(IDS), added=((other, StoredFake(("a", "b", "c", "d"))),))
    how = Training(strategy=Strategy("mix"))
    mixed = mixture.join(task_of(FOLDS), how, ["clean"])
    rows = {"tts:a", "tts:b", "tts:c", "tts:d"}
    for fold, plain in zip(mixed.task.plan.folds, FOLDS, strict=True):
        assert set(fold.train) - set(plain.train) == rows
        assert (fold.dev, fold.test) == (plain.dev, plain.test)
    assert mixed.task.facts.added == rows
    assert mixed.task.speakers["tts:a"] == "tts:s0"
    assert mixed.task.strategy == "mix tts"
    assert set(mixed.features.ids) == {*IDS, *rows}


def test_copies_are_the_added_data_where_there_is_no_other_corpus() -> None:
    mixture = Mixture(StoredFake(IDS), {"noise": StoredFake(IDS), "noise+1": StoredFake(IDS)})
    how = Training(strategy=Strategy("curriculum", ratio=1.0))
    task = mixture.join(task_of(FOLDS), how, ["clean"]).task
    for fold in task.plan.folds:
        assert len([i for i in fold.train if i in task.facts.added]) == 3
    assert (task.augmentation, task.strategy) == ("noise x2", "curriculum:stages=10 copies 1")


def test_smaller_ratios_are_parts_of_larger_ones_and_too_large_ones_say_so() -> None:
    other = manifest_of(tuple("abcdefgh"), "tts")
    mixture = Mixture(StoredFake(IDS), added=((other, StoredFake(tuple("abcdefgh"))),))
    sides = []
    for ratio in (1 / 3, 1.0, 2.0):
        how = Training(strategy=Strategy("mix", ratio=ratio))
        fold = mixture.join(task_of(FOLDS), how, ["clean"]).task.plan.folds[0]
        sides.append(set(fold.train))
        assert len(fold.train) == 3 + round(3 * ratio)
    assert sides[0] < sides[1] < sides[2]
    with pytest.raises(
        UsageError, match=r"asks for 9 added utterances beside 3 real.*from 0.33 to"
    ):
        mixture.join(task_of(FOLDS), Training(strategy=Strategy("mix", ratio=3.0)), ["clean"])


def test_a_ratio_is_drawn_by_name_whatever_the_order() -> None:
    names, half = [f"x{i:03d}" for i in range(200)], Strategy("mix", ratio=0.5)
    taken = take_ratio(half, names, 200, "f")
    assert len(taken) == 100
    assert list(taken) == sorted(taken)  # in the order given
    assert 30 < len(set(taken) & set(names[:100])) < 70
    assert set(take_ratio(half, names[::-1], 200, "f")) == set(taken)
    assert set(take_ratio(half, names, 200, "g")) != set(taken)


def test_labels_of_another_corpus_are_mapped_and_what_is_left_out_is_said() -> None:
    words = ("anger", "Excitement", "disgust", "neutral")
    utterances = tuple(Utterance(w, Path(w), w) for w in words)
    other = map_labels(Manifest("tts", utterances), ("angry", "happy+excited", "sad"))
    assert [(u.id, u.label) for u in other.utterances] == [
        ("anger", "angry"), ("Excitement", "happy")
    ]  # fmt: skip
    assert other.labels == ("angry", "happy", "sad")
    notes = " | ".join(other.notes)
    assert "tts has no sad to add" in notes
    assert "2 of 4 utterances are left out" in notes
    with pytest.raises(UsageError, match="has no utterance of happy, sad to add; it has: anger"):
        map_labels(replace(other, utterances=utterances[:1]), ("happy", "sad"))
