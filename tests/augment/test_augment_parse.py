"""The text of an augmentation: read, written, named; what is wrong with it said in one line."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_features.augment.kind import Kind, Parameter
from ser_features.augment.parse import Augmentation, Step, parse_augmentation
from ser_features.augment.table import AUGMENTATIONS
from ser_features.augment.values import OneOf, Span, parse_numbers, show
from ser_features.errors import UsageError

FOLDERS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    # Far smaller numbers than any bound would need exponents, which the grammar does not have.
    return st.floats(low, high).map(lambda x: round(x, 6) + 0.0)


@st.composite
def values(draw: st.DrawFn, one: Parameter) -> object:
    if one.folder:
        return "/" + draw(FOLDERS).strip("/.") + "x"
    if one.words:
        return OneOf(tuple(draw(st.lists(st.sampled_from(one.words), min_size=1, max_size=3))))
    each = st.integers(int(one.low), int(one.high)).map(float) if one.counts else numbers(
        one.low, one.high
    )  # fmt: skip
    items = draw(st.lists(each, min_size=1, max_size=3))
    if not one.counts and len(items) == 2 and items[0] != items[1]:
        return Span(min(items), max(items))
    return OneOf(tuple(items))


@st.composite
def steps(draw: st.DrawFn) -> Step:
    kind: Kind = AUGMENTATIONS[draw(st.sampled_from(sorted(AUGMENTATIONS)))]
    return Step(kind.name, tuple((one.name, draw(values(one))) for one in kind.parameters))


@given(st.lists(steps(), max_size=3))
def test_the_text_of_any_augmentation_reads_back_as_itself(parts):
    paired = [step for step in parts if step.kind.partner]
    made = Augmentation(tuple(step for step in parts if step not in paired[1:]))
    if sum(step.kind.partner for step in made.steps) > 1:
        return
    again = parse_augmentation(made.text)
    assert (again, again.text, again.name) == (made, made.text, made.name)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(UsageError):
        assert parse_augmentation(parse_augmentation(text).text) == parse_augmentation(text)


@given(st.text("0123456789.-/e+", max_size=8))
def test_numbers_are_read_or_refused(text):
    try:
        value = parse_numbers(text)
    except ValueError:
        return
    assert parse_numbers(show(value)) == value


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("clean", "clean"),
        ("noise:snr=10,folder=/n", "noise-10db"),
        ("noise:folder=/n", "noise-10or5or0db"),
        ("noise:folder=/n,snr=-5-5.5", "noise--5to5.5db"),
        ("music:snr=0,folder=/a+b", "music-0db"),
        ("reverb", "reverb"),
        ("reverb:wet=0.3+noise:snr=10,folder=/n", "reverb-wet0.3+noise-10db"),
        ('noise:folder="/a,b+reverb",snr=5+reverb', "noise-5db+reverb"),
        ("reverb:room=0-0.2", "reverb"),
    ],
)
def test_names_tell_what_differs_from_the_defaults(text, name):
    assert parse_augmentation(text).name == name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nois:snr=10", "unknown augmentation 'nois'; did you mean 'noise'?"),
        ("noise:snr=10", "noise needs folder; expected noise:snr=10/5/0,folder=FOLDER"),
        ("reverb:wet", "'wet' has no value; expected reverb:room=0-0.2"),
        ("reverb:wet=0.1,wet=0.2", "'wet' is given twice"),
        ("reverb:wat=1", "unknown parameter of reverb 'wat'; did you mean 'wet'?"),
        ("reverb:wet=2", "wet=2: expected numbers from 0 to 1 share"),
        ("reverb:wet=0.5-0.1", "expected a range from the smaller to the larger"),
        ("specmask:times=2.5", "times=2.5: expected a whole number"),
        ("specmask:bands=0-3", "bands=0-3: expected a whole number"),
        ("codec:format=amr", "expected words of mp3, vorbis, opus, ulaw, alaw, gsm"),
        ("reverb:wet=1e-3", "expected a number"),
        ("reverb:wet=nan", "expected a number"),
        ('noise:folder="/a', "a double quote is not closed"),
        ('noise:folder=/a"b"', "quotes go around the whole value"),
        ("", "unknown augmentation ''"),
    ],
)
def test_what_is_wrong_is_said(text, found):
    with pytest.raises(UsageError) as caught:
        parse_augmentation(text)
    assert found in str(caught.value)


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (step,) = parse_augmentation("noise:folder=rel/n").steps
    assert step.folders == (str(tmp_path / "rel" / "n"),)
