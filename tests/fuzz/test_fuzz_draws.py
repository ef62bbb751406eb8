"""A recorded draw from a stranger: applied as serfeat writes it, or an error that says why not."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from augment_scene import RATE, make, white
from hostile import bounded, changed, hows, told, values
from ser_features.augment.augmented import Augmented, partner_samples
from ser_features.augment.partners import Partners
from ser_features.augment.recorded import check_draw
from ser_features.augment.table import AUGMENTATIONS
from ser_features.errors import AudioError, SerfeatError, StoreError
from ser_features.records import Source, Utterance
from ser_features.studies.joined import whole_pairs

EXAMPLES = 300 if "SERFEAT_TORTURE" in os.environ else 12
NEEDED = {"noise": "noise:folder={}", "music": "music:folder={}", "rir": "rir:folder={}"}
LIES = st.one_of(
    values,
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        ["u1", "../u1", "neutral", "/dev/zero", [0, 2**40], [-1, 5], [5, -1], [[0, 9]]]
    ),
)
COUNT = 2000


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Utterance, ...]:
    (tmp_path / "folder").mkdir()
    soundfile.write(tmp_path / "folder" / "n.wav", white(0.2, seed=3), RATE)
    found = []
    for i in range(3):
        path = tmp_path / f"u{i}.wav"
        soundfile.write(path, white(COUNT / RATE, seed=i), RATE, subtype="FLOAT")
        found.append(Utterance(f"u{i}", path, label="neutral"))
    return tuple(found)


def draws(text: str, corpus: tuple[Utterance, ...]) -> tuple[Augmented, dict[str, Any]]:
    """The augmentation of a text, and what it draws for the first utterance."""
    for needed in ("pedalboard", "pyroomacoustics"):
        if needed in AUGMENTATIONS[text.partition(":")[0]].needs:
            pytest.importorskip(needed)
    one = make(text)
    return one, json.loads(one.draw(corpus[0], COUNT, RATE, Partners(corpus))[0])


def replay(one: Augmented, draw: object, corpus: tuple[Utterance, ...]) -> bool:
    """Whether it is applied; what comes out is finite and as long as was said."""
    samples = white(COUNT / RATE)
    try:
        with bounded():
            partner = partner_samples({u.id: u for u in corpus}, json.dumps(draw), RATE)
            found = one.apply(samples, json.dumps(draw), RATE, partner)
    except AudioError as error:
        told(error, "recorded draw", "recording", "crop", "fade", "samples", "channel", "partner")
        return False
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert len(found) == draw["output"]  # type: ignore[index]
    return True


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_draw_that_says_anything(name: str, corpus: Any, tmp_path: Path, counted: Any) -> None:
    one, right = draws(NEEDED.get(name, name).format(tmp_path / "folder"), corpus)
    outcomes = [0, 0]

    @settings(max_examples=EXAMPLES, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=LIES)
    @example(pick=1, how="replace", new=2**40)
    @example(pick=198532, how="replace", new=1)  # a room that is too small for the speaker
    def attempt(pick: int, how: str, new: object) -> None:
        outcomes[replay(one, changed(right, pick, how, new), corpus)] += 1

    assert replay(one, right, corpus)
    attempt()
    assert outcomes[0]
    counted(augmentation=name, applied=outcomes[1], refused=outcomes[0])


@pytest.mark.parametrize("draw", [None, [], 3, "x", {}, {"steps": []}, {"steps": [[]]}])
def test_what_is_no_draw_is_refused(draw: object, corpus: Any) -> None:
    assert not replay(make("gain"), draw, corpus)
    with pytest.raises(AudioError, match="is damaged"):
        check_draw("[" * 9000, ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"snr": 99.0}, r"'snr' is 99\.0 in step 1 \(noise\); expected 10 or 5 or 0"),
        ({"file": "/etc/passwd"}, "'file' is '/etc/passwd' .*expected the sha256"),
        ({"file": "0" * 64}, "no recording with sha256 0000"),
        ({"start": 1.0}, r"'start' is 1\.0 .*expected a whole number"),
        ({"start": True}, "'start' is True"),
        ({"more": 1}, "has 'more' in step 1"),
        ({"kind": "gain"}, r"the steps \['gain'\]; expected noise"),
    ],
)
def test_what_a_draw_may_not_say(change: Any, words: str, corpus: Any, tmp_path: Path) -> None:
    one, right = draws(f"noise:folder={tmp_path / 'folder'}", corpus)
    right["steps"][0] |= change
    with pytest.raises(AudioError, match=words):
        one.apply(white(COUNT / RATE), json.dumps(right), RATE)


def test_steps_that_lie_about_their_length_do_not_grow(corpus: Any) -> None:
    """Sixteen halved speeds are 65536 times the memory, whatever the record says of it."""
    one, right = draws("+".join(["speed:factor=1"] * 16), corpus)
    for step in right["steps"]:
        step["thousandths"] = 500
    assert not replay(one, right, corpus)


def test_the_partner_of_a_draw_is_the_one_that_is_joined(corpus: Any) -> None:
    """Training asks the draw for it, to keep it on one side of the split."""
    one, right = draws("copypaste-n", corpus)
    assert not replay(one, {**right, "partner": "u9"}, corpus)
    assert not replay(one, {k: v for k, v in right.items() if k != "partner"}, corpus)


def copies(draw: str, text: str = "copypaste-n:crop=4") -> Any:
    """What ``whole_pairs`` sees of a feature set."""
    provenance = {"augmentation": {"text": text, "seed": 0, "copy": 0}}
    sources = {"u0": Source("u0", "u0.wav", 0, 0, "", draw=draw)}
    return SimpleNamespace(name="made/fake/set", sources=sources, provenance=provenance)


def test_pairs_of_any_draw(corpus: Any, counted: Any) -> None:
    _, right = draws("copypaste-n", corpus)
    known, outcomes = {"u0": 1, right["partner"]: 1}, [0, 0]
    assert whole_pairs(copies(json.dumps(right)), known) == {"u0": right["partner"]}

    @settings(max_examples=EXAMPLES, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=LIES)
    @example(pick=0, how="delete", new=None)
    def attempt(pick: int, how: str, new: object) -> None:
        try:
            with bounded():
                whole_pairs(copies(json.dumps(changed(right, pick, how, new))), known)
            outcomes[1] += 1
        except StoreError as error:
            told(error, "made/fake/set, utterance 'u0'")
            outcomes[0] += 1

    attempt()
    assert outcomes[0]
    counted(paired=outcomes[1], refused=outcomes[0])


@pytest.mark.parametrize("text", ["gain", "copypaste-n+gain", "nothing", "clean", 3, None])
def test_pairs_of_another_set_are_refused(text: Any) -> None:
    with pytest.raises(SerfeatError, match="made/fake/set: "):
        whole_pairs(copies("{}", text), {})
    without = copies("{}")
    without.provenance = {}
    with pytest.raises(SerfeatError, match="made/fake/set: "):
        whole_pairs(without, {})


def test_corpora_without_labels_do_not_matter(corpus: Any) -> None:
    """The draw says the partner; labels are not asked again."""
    one, right = draws("copypaste-n", corpus)
    assert replay(one, right, tuple(structs.replace(u, label=None) for u in corpus))
