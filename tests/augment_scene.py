"""One recording under one augmentation: drawn and applied without a store."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ser_features.augment.augmented import Augmented, augmented_sets, partner_samples
from ser_features.augment.partners import Partners
from ser_features.records import Utterance

RATE = 16000


def make(text: str, **how: int) -> Augmented:
    (one,) = augmented_sets([text], **how)
    assert one is not None
    return one


def drawn(
    one: Augmented, count: int, name: str = "u", rate: int = RATE, corpus: Sequence[Utterance] = ()
) -> dict:
    """The recorded draw for an utterance of ``count`` samples."""
    by_id = {utterance.id: utterance for utterance in corpus}
    utterance = by_id.get(name, Utterance(name, Path(f"{name}.wav"), label="x"))
    return json.loads(one.draw(utterance, count, rate, Partners(corpus))[0])


def augment(
    text: str, samples: np.ndarray, name: str = "u", rate: int = RATE,
    corpus: Sequence[Utterance] = (),
) -> np.ndarray:  # fmt: skip
    """The samples after an augmentation; it does not change its input."""
    one, before = make(text), samples.copy()
    draw = json.dumps(drawn(one, len(samples), name, rate, corpus))
    partner = partner_samples({utterance.id: utterance for utterance in corpus}, draw, rate)
    after = one.apply(samples, draw, rate, partner)
    np.testing.assert_array_equal(samples, before)
    np.testing.assert_array_equal(after, one.apply(samples, draw, rate, partner))
    assert after.dtype == np.float32
    return after


def tone(hertz: float, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def white(seconds: float = 1.0, seed: int = 0, rate: int = RATE) -> np.ndarray:
    count = round(seconds * rate)
    return (0.1 * np.random.RandomState(seed).standard_normal(count)).astype(np.float32)


def pitch_of(samples: np.ndarray, rate: int = RATE) -> float:
    """Hertz of the strongest partial, away from the ends."""
    middle = samples[len(samples) // 8 : -len(samples) // 8]
    size = 1 << 20
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), size))
    return float(spectrum.argmax() * rate / size)


def decibels(ratio: float) -> float:
    """Of a ratio of powers."""
    return float(10 * np.log10(ratio))
