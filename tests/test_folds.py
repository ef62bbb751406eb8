from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ser_features.errors import ProtocolError, UsageError
from ser_features.folds import PROTOCOLS, make_folds
from ser_features.manifest import Manifest
from ser_features.records import Fold, Utterance

LABELS = ("angry", "happy", "neutral", "sad")


def manifest_of(
    rows: list[tuple[str | None, str]], corpus: str = "toy", **more: object
) -> Manifest:
    """Utterances of (speaker, label); speakers 0+1, 2+3, … share a session."""
    utterances = tuple(
        Utterance(
            f"u{i:03}", Path(f"u{i}.wav"), label=label, speaker=speaker, session=session_of(speaker)
        )
        for i, (speaker, label) in enumerate(rows)
    )
    return Manifest(corpus, utterances, **more)  # type: ignore[arg-type]


def session_of(speaker: str | None) -> str | None:
    return None if speaker is None else f"s{int(speaker) // 2}"


def balanced(num_speakers: int, each: int = 2) -> Manifest:
    return manifest_of(
        [(str(s), label) for s in range(num_speakers) for label in LABELS for _ in range(each)]
    )


def speakers(manifest: Manifest, ids: tuple[str, ...]) -> set[str | None]:
    return {manifest.by_id[i].speaker for i in ids}


rows = st.lists(
    st.tuples(st.integers(0, 8).map(str), st.sampled_from(LABELS)), min_size=12, max_size=60
).filter(lambda found: len({speaker for speaker, _ in found}) >= 6)


@given(
    rows, st.sampled_from(["loso", "session", "kfold:2", "kfold:3", "kfold:5"]), st.integers(0, 3)
)
def test_sides_are_disjoint_cover_and_share_no_speaker(
    found: list[tuple[str, str]], protocol: str, seed: int
) -> None:
    manifest = manifest_of(found)
    if protocol == "session" and len({u.session for u in manifest.utterances}) < 3:
        return
    plan = make_folds(manifest, protocol, seed)
    everyone = {u.id for u in manifest.utterances}
    for fold in plan.folds:
        assert sorted((*fold.train, *fold.dev, *fold.test)) == sorted(everyone)
        assert all((fold.train, fold.dev, fold.test))
        train, dev, test = (speakers(manifest, s) for s in (fold.train, fold.dev, fold.test))
        assert not train & dev
        assert not test & (train | dev)
    tested = Counter(i for fold in plan.folds for i in fold.test)
    assert tested == Counter(everyone)
    assert not plan.dev_shares_speakers
    assert make_folds(manifest, protocol, seed) == plan


@given(st.permutations(range(24)))
def test_loso_does_not_depend_on_the_order_of_the_manifest(order: list[int]) -> None:
    manifest = balanced(6, each=1)
    shuffled = Manifest("toy", tuple(manifest.utterances[i] for i in order))
    for one, other in zip(
        make_folds(manifest, "loso").folds, make_folds(shuffled, "loso").folds, strict=True
    ):
        assert (one.name, set(one.dev), set(one.test)) == (
            other.name,
            set(other.dev),
            set(other.test),
        )


def test_loso_takes_the_next_fifth_in_rotation_as_dev() -> None:
    manifest = balanced(10)
    last = make_folds(manifest, "loso").folds[-1]
    assert last.name == "9"
    assert speakers(manifest, last.test) == {"9"}
    assert speakers(manifest, last.dev) == {"0", "1"}


def test_session_holds_out_a_session_and_takes_the_next_as_dev() -> None:
    manifest = balanced(10)
    plan = make_folds(manifest, "session")
    assert [fold.name for fold in plan.folds] == ["s0", "s1", "s2", "s3", "s4"]
    assert speakers(manifest, plan.folds[4].dev) == {"0", "1"}


def test_kfold_is_balanced_by_label_and_drawn_by_the_seed() -> None:
    manifest = balanced(10)
    plan = make_folds(manifest, "kfold:5", seed=0)
    for fold in plan.folds:
        assert Counter(manifest.by_id[i].label for i in fold.test) == dict.fromkeys(LABELS, 4)
    others = [make_folds(manifest, "kfold:5", seed).folds for seed in range(1, 4)]
    assert any(folds != plan.folds for folds in others)


def with_splits(manifest: Manifest, splits: dict[str, str]) -> Manifest:
    utterances = tuple(
        Utterance(u.id, u.path, u.label, u.speaker, u.session, splits[u.speaker or ""])
        for u in manifest.utterances
    )
    return Manifest(manifest.corpus, utterances)


def test_official_uses_the_corpus_own_dev() -> None:
    manifest = with_splits(balanced(3), {"0": "train", "1": "dev", "2": "test"})
    (fold,) = make_folds(manifest, "official").folds
    assert speakers(manifest, fold.dev) == {"1"}


def test_official_without_dev_carves_a_speaker_disjoint_one() -> None:
    manifest = with_splits(balanced(6), {**dict.fromkeys("01234", "train"), "5": "test"})
    plan = make_folds(manifest, "official")
    (fold,) = plan.folds
    assert len(speakers(manifest, fold.dev)) == 1
    assert not plan.dev_shares_speakers
    assert plan.notes == ()


def test_official_with_one_training_speaker_says_that_dev_is_random() -> None:
    manifest = with_splits(balanced(2, each=5), {"0": "train", "1": "test"})
    plan = make_folds(manifest, "official")
    (fold,) = plan.folds
    assert Counter(manifest.by_id[i].label for i in fold.dev) == dict.fromkeys(LABELS, 1)
    assert plan.dev_shares_speakers
    assert "dev is a random 20% of train" in plan.notes[0]


def test_official_folds_of_the_corpus_come_before_splits() -> None:
    own = (Fold("a", ("u000", "u001"), ("u002",), ("u003",)),)
    manifest = Manifest("toy", balanced(1).utterances, folds={"official": own})
    assert make_folds(manifest, "official").folds == own


def test_dev_may_share_speakers_that_are_not_known() -> None:
    rows = [("train", None), ("dev", "b"), ("test", "c"), ("train", "a"), ("dev", "d")]
    utterances = tuple(
        Utterance(f"u{i}", Path(f"{i}.wav"), ("x", "y")[i % 2], speaker, split=split)
        for i, (split, speaker) in enumerate(rows)
    )
    assert make_folds(Manifest("c", utterances), "official").dev_shares_speakers
    known = tuple(structs.replace(u, speaker=u.speaker or u.id) for u in utterances)
    assert not make_folds(Manifest("c", known), "official").dev_shares_speakers


def test_emobox_keeps_its_folds_and_says_that_dev_shares_speakers() -> None:
    ids = [u.id for u in balanced(2).utterances]
    own = (Fold("fold1", tuple(ids[0:6]), tuple(ids[6:8]), tuple(ids[8:])),)
    plan = make_folds(Manifest("toy", balanced(2).utterances, folds={"emobox": own}), "emobox")
    assert plan.folds == own
    assert plan.dev_shares_speakers


def test_a_class_missing_from_a_training_side_is_noted() -> None:
    manifest = manifest_of([(str(s), LABELS[s % 2]) for s in range(6) for _ in range(3)])
    odd = with_splits(
        manifest, {**dict.fromkeys("024", "train"), "1": "dev", "3": "test", "5": "test"}
    )
    assert "fold official: no train utterance of happy" in make_folds(odd, "official").notes


def test_notes_on_a_corpus_s_own_folds_come_along() -> None:
    manifest = balanced(3)
    ids = [u.id for u in manifest.utterances]
    own = (Fold("a", tuple(ids[0:8]), tuple(ids[8:16]), tuple(ids[16:])),)
    noted = manifest.with_folds("superb", own, "this is not quite SUPERB")
    plan = make_folds(noted, "superb")
    assert plan.folds == own
    assert plan.notes == ("this is not quite SUPERB",)
    assert make_folds(noted.with_folds("superb", own), "superb").notes == ()
    assert make_folds(noted, "loso").notes == ()


@pytest.mark.parametrize(
    ("manifest", "protocol", "said"),
    [
        (balanced(2), "loso", "loso needs at least 3 speakers .* has 2: 0, 1"),
        (balanced(4), "session", "session needs at least 3 sessions .* has 2: s0, s1"),
        (balanced(4), "kfold:5", "from 2 to the number of speakers, 'toy' has 4"),
        (balanced(4), "kfold", "'kfold' is not well formed; expected 'kfold:K'"),
        (balanced(4), "kfold:x", "not well formed"),
        (balanced(4), "loso:3", "expected 'loso'"),
        (balanced(4), "official", "32 of 32 have none .*'split' column"),
        (balanced(4), "emobox", "carries no 'emobox' folds .its own folds: none."),
        (
            manifest_of([("0", "sad"), (None, "sad"), (None, "sad")]),
            "loso",
            "2 of 3 have none .first: 'u001'.; protocols that need none: session, official",
        ),
        (manifest_of([("0", "")] * 3), "loso", "needs the label of every utterance, 3 of 3"),
        (
            Manifest(
                "toy", balanced(1).utterances, folds={"emobox": (Fold("1", ("u000",), (), ()),)}
            ),
            "emobox",
            "fold '1' has no dev utterances|no test utterances",
        ),
    ],
)
def test_what_cannot_be_divided_is_said(manifest: Manifest, protocol: str, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        make_folds(manifest, protocol)


def test_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown protocol 'losso'; did you mean 'loso'"):
        make_folds(balanced(3), "losso")


def test_every_protocol_describes_itself() -> None:
    assert list(PROTOCOLS) == ["loso", "session", "kfold", "official", "emobox", "superb"]
    assert all(p.description and p.dev for p in PROTOCOLS.values())
