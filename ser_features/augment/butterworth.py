"""High-pass and low-pass filters of the ninth order, alone and in series."""

from collections.abc import Mapping

import scipy  # scipy.signal takes half a second to load: where it is first used

from ser_features.augment.fields import asked
from ser_features.augment.kind import (
    Context,
    Dice,
    Drawn,
    Kind,
    Parameter,
    Samples,
    Scene,
    as_samples,
)
from ser_features.augment.sources import MISMATCH, OWN
from ser_features.augment.values import Value
from ser_features.errors import AudioError
from ser_features.records import Json

ORDER = 9


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """The cut-offs in Hz: ``low`` of a high-pass, ``high`` of a low-pass."""
    del context
    return {name: dice.number(value) for name, value in values.items()}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """Filtered forwards from rest; a low-pass from half the sample rate on changes nothing."""
    half = scene.sample_rate / 2
    for name, kind in (("low", "highpass"), ("high", "lowpass")):
        if name not in drawn or (name == "high" and drawn[name] >= half):
            continue
        if drawn[name] >= half:
            raise AudioError("augmentation", f"a high-pass at {drawn[name]:g} Hz leaves nothing")
        sections = scipy.signal.butter(ORDER, drawn[name], kind, fs=scene.sample_rate, output="sos")
        samples = scipy.signal.sosfilt(sections, samples)
    return as_samples(samples)


def _cutoff(name: str, default: str) -> Parameter:
    what = "cut-off of the " + ("high-pass" if name == "low" else "low-pass")
    return Parameter(name, what, default, f"{OWN} (the paper gives none)", "Hz", "hz", 10, 24000)


def _kind(name: str, what: str, *parameters: Parameter) -> Kind:
    what = f"{what} (Butterworth, order {ORDER})"
    fields = tuple(asked(one.name) for one in parameters)
    return Kind(name, what, MISMATCH, parameters, fields, draw, apply)


_LOW, _HIGH = _cutoff("low", "50-300"), _cutoff("high", "3400-7500")
HIGHPASS = _kind("highpass", "high-pass filter", _LOW)
LOWPASS = _kind("lowpass", "low-pass filter", _HIGH)
EQUALIZE = _kind("equalize", "high-pass and low-pass filters in series", _LOW, _HIGH)
