"""What is held out of pretraining, and what its classes are."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ser_features.manifest import Manifest
from ser_features.pretrain import PretrainOptions, _classes, _held_out
from ser_features.records import Utterance


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=6),
    st.floats(0.01, 0.99),
    st.integers(0, 99),
)
def test_of_each_class_a_share_is_held_out_but_never_all(
    sizes: list[int], share: float, seed: int
) -> None:
    classes = {f"u{i}-{j}": f"c{i}" for i, size in enumerate(sizes) for j in range(size)}
    options = PretrainOptions(dev_share=share, seed=seed)
    held = _held_out(classes, options)
    for i, size in enumerate(sizes):
        count = sum(classes[name] == f"c{i}" for name in held)
        assert count == min(size - 1, max(1, round(share * size)))
    assert _held_out(dict(reversed(classes.items())), options) == held


def test_words_of_one_emotion_are_one_class_over_corpora_and_speakers_stay_apart() -> None:
    one, two = (
        Manifest(name, tuple(
            Utterance(f"u{i}", Path(f"{i}.wav"), label=label, speaker="s")
            for i, label in enumerate(labels)
        ))
        for name, labels in (("a", ("angry", "happy")), ("b", ("Anger", "happiness")))
    )  # fmt: skip
    emotions = [kind for each in (one, two) for _, kind in _classes(each, "emotion")]
    assert emotions == ["angry", "happy", "angry", "happy"]
    speakers = {kind for each in (one, two) for _, kind in _classes(each, "speaker")}
    assert speakers == {"a/s", "b/s"}
