import pytest

from ser_features.errors import UsageError
from ser_features.labels import CANONICAL, LabelClass, canonical_label, parse_classes


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("anger", "angry"),
        ("Happiness", "happy"),
        ("joy", "happy"),
        ("sadness", "sad"),
        ("boredem", "boredom"),
        ("Fearful", "fear"),
        ("surprised", "surprise"),
        ("calm", "calm"),
        ("excited", "excited"),
        ("exc", "excited"),
        ("  Talking   Loudly ", "talking loudly"),
    ],
)
def test_canonical_label(label: str, expected: str) -> None:
    assert canonical_label(label) == expected


def test_canonical_map_ends_in_one_step() -> None:
    assert not set(CANONICAL) & set(CANONICAL.values())


def test_classes_keep_the_asked_order_and_merge_with_plus() -> None:
    assert parse_classes(["sad", "joy+exc", "anger"]) == (
        LabelClass("sad", ("sad",)),
        LabelClass("happy", ("happy", "excited")),
        LabelClass("angry", ("angry",)),
    )


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ([], "no labels asked for"),
        (["happy", ""], "'' is not a label"),
        (["happy+"], "'happy\\+' is not a label"),
        (["happy", "joy"], "label 'happy' is asked for twice, by 'happy' and 'joy'"),
        (["happy+excited", "sad+excited"], "'excited' is asked for twice"),
    ],
)
def test_bad_requests(request_: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_classes(request_)
