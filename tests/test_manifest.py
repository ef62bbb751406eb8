import dataclasses
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_features.errors import ManifestError, UsageError
from ser_features.manifest import Manifest, _plain, _utterance_problems
from ser_features.records import Fold, Utterance


def utterance(id: str = "a", label: str | None = "anger", **others: object) -> Utterance:
    return Utterance(id, Path("x.wav"), label, **others)  # type: ignore[arg-type]


def manifest(*utterances: Utterance, **others: object) -> Manifest:
    return Manifest("toy", utterances, **others)  # type: ignore[arg-type]


FOUR = manifest(
    utterance("a", "anger"),
    utterance("b", "Happiness"),
    utterance("c", "excited"),
    utterance("d", "joy"),
    folds={"official": (Fold("1", ("a", "b"), ("c",), ("d",)),)},
)


def test_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FOUR.corpus = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        FOUR.folds["new"] = ()  # type: ignore[index]
    with pytest.raises(TypeError):
        FOUR.by_id["new"] = utterance()  # type: ignore[index]


def test_survives_pickling() -> None:
    noted = FOUR.with_folds("superb", [Fold("1", ("a",), ("b",), ("c",))], "not quite SUPERB")
    again = pickle.loads(pickle.dumps(noted))
    assert again == noted
    assert dict(again.folds) == dict(noted.folds)
    assert dict(again.fold_notes) == {"superb": ("not quite SUPERB",)}


def test_notes_on_folds_go_with_those_folds() -> None:
    noted = FOUR.with_folds("superb", [], "not quite SUPERB")
    assert noted.without({"a"}).select_labels().fold_notes["superb"] == ("not quite SUPERB",)
    assert noted.with_folds("superb", []).fold_notes["superb"] == ()
    assert "superb" not in FOUR.fold_notes


def test_valid_manifest_has_no_problems() -> None:
    assert FOUR.validate() is FOUR
    assert FOUR.by_id["b"].label == "Happiness"
    assert FOUR.labels == ("Happiness", "anger", "excited", "joy")


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (utterance(""), "line 2: the id is empty"),
        (utterance("  "), "line 2: the id is empty"),
        (utterance("é" * 128), "is 256 bytes long; at most 255"),
        (utterance("a\tb"), "holds a control character"),
        (utterance("\ud800"), "is not valid Unicode"),
        (utterance("b", None), "line 2: 'b' has no label"),
        (utterance("b", " "), "line 2: 'b' has no label"),
        (utterance("b", split="valid"), "split 'valid' is not known; expected one of train, dev"),
        (utterance("b", start=-1.0), "start is -1.0 s; it cannot be negative"),
        (utterance("b", start=float("nan")), "start is nan; expected seconds"),
        (utterance("b", end=float("inf")), "end is inf; expected seconds"),
        (utterance("b", start=2.0, end=2.0), "end (2.0 s) is not after start (2.0 s)"),
        (utterance("b", end=0.0), "end (0.0 s) is not after start (0 s)"),
        (Utterance("b", Path("a\0b"), "x"), "holds a NUL character"),
        (utterance("ok"), "id 'ok' is there 2 times: line 1, line 2"),
    ],
)
def test_each_problem_is_named_with_its_row(bad: Utterance, problem: str) -> None:
    (found,) = manifest(utterance("ok"), bad, rows=("line 1", "line 2")).problems()
    assert problem in found


def test_255_bytes_are_fine() -> None:
    assert not manifest(utterance("x" * 255)).problems()


def test_all_problems_come_at_once() -> None:
    bad = manifest(utterance(""), utterance("b", None, start=-1.0), utterance("b", split="x"))
    with pytest.raises(ManifestError, match="'toy' is not valid, 5 problem") as info:
        bad.validate()
    assert len(info.value.problems) == 5
    assert info.value.problems[-1] == "id 'b' is there 2 times: utterance 2, utterance 3"


def test_empty_manifest_and_odd_corpus_names() -> None:
    assert manifest().problems() == ("there are no utterances",)
    for name in ("", "a/b", "..", ".hidden", "a\nb"):
        assert "cannot name a folder" in Manifest(name, (utterance(),)).problems()[0]


def test_folds_are_checked() -> None:
    folds = {"official": (Fold("1", ("a", "zzz"), ("a",), ()),)}
    assert manifest(utterance("a"), folds=folds).problems() == (
        "fold '1' of 'official': 1 train id(s) are not in the manifest, such as 'zzz'",
        "fold '1' of 'official': 1 id(s) are in train and in dev, such as 'a'",
    )


def test_select_merges_orders_and_counts() -> None:
    chosen = FOUR.select_labels(["joy", "anger"])
    assert chosen.labels == ("happy", "angry")
    assert [(u.id, u.label) for u in chosen.utterances] == [
        ("a", "angry"),
        ("b", "happy"),
        ("d", "happy"),
    ]
    assert chosen.folds["official"] == (Fold("1", ("a", "b"), (), ("d",)),)
    assert chosen.notes == ("1 of 4 utterances are left out by the selection of labels: excited 1",)
    assert chosen.validate()


def test_excited_becomes_happy_only_where_asked() -> None:
    chosen = FOUR.select_labels(["anger", "happy+excited"])
    assert chosen.label_counts == {"angry": 1, "happy": 3}
    assert chosen.notes == ("class 'happy' is merged from happy 2, excited 1",)


def test_select_without_request_keeps_all_labels_in_canonical_words() -> None:
    chosen = FOUR.select_labels()
    assert chosen.labels == ("angry", "excited", "happy")
    assert len(chosen) == 4
    assert chosen.notes == ()
    assert chosen.select_labels(["angry"]).labels == ("angry",)


def test_unlabelled_utterances_are_counted_when_left_out() -> None:
    chosen = manifest(utterance("a"), utterance("b", None)).select_labels()
    assert chosen.notes == (
        "1 of 2 utterances are left out by the selection of labels: without a label 1",
    )


def test_requested_label_that_is_not_there() -> None:
    with pytest.raises(ManifestError) as info:
        FOUR.select_labels(["angri", "sad"])
    assert str(info.value).splitlines() == [
        "'toy' has no utterance of 2 requested label(s); it has: angry (1), excited (1), happy (2)",
        "  - no 'angri'; did you mean 'angry'?",
        "  - no 'sad'",
    ]


def test_no_labels_at_all() -> None:
    with pytest.raises(ManifestError, match="no utterance of 'toy' has a label"):
        manifest(utterance("a", None)).select_labels()
    with pytest.raises(UsageError, match="no labels asked for"):
        FOUR.select_labels([])


@given(st.lists(st.tuples(st.text(max_size=8), st.none() | st.text(max_size=8)), max_size=12))
def test_any_ids_and_labels_give_problems_or_a_usable_manifest(rows: list[tuple[str, str]]) -> None:
    toy = manifest(*(utterance(id, label) for id, label in rows))
    if toy.problems():
        return
    chosen = toy.select_labels()
    assert len(chosen) == len(toy) == len(toy.by_id)
    assert sum(chosen.label_counts.values()) == len(toy)
    assert set(chosen.label_counts) == set(chosen.labels)


def test_without_some_utterances() -> None:
    left = FOUR.without({"b", "c"})
    assert [u.id for u in left.utterances] == ["a", "d"]
    assert left.folds["official"] == (Fold("1", ("a",), (), ("d",)),)
    assert manifest(utterance("a"), utterance("b"), rows=("1", "2")).without(["a"]).rows == ("2",)


odd_text = st.text(st.sampled_from("a ü\0\n\x7f\u200b\ud800/"), max_size=80)
odd_time = st.sampled_from([None, -1.0, 0.0, 1.0, 2.0, float("nan"), float("inf")])


@given(odd_text, odd_text, st.none() | odd_text, st.sampled_from([None, "dev", "x"]), odd_time,
       odd_time)  # fmt: skip
def test_the_quick_look_lets_no_problem_pass(name, path, label, split, start, end):
    one = Utterance(name, Path(path), label=label, split=split, start=start, end=end)
    if _plain(one):
        assert list(_utterance_problems(one)) == []
