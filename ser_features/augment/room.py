"""Simulated rooms: the image source method in a box (pyroomacoustics), and a tail of noise.

The images within a T60 grow with its cube: at 2 s in a room of 1.5 m there are 360 million. So the
order of reflections ends at ``MOST_ORDER``. Up to the time from which images of higher orders would
be missing the response is exact; from there on it is Polack's model of late reverberation: Gaussian
noise that decays by 60 dB in a T60 (J.-D. Polack, "Playing billiards in the concert hall", Applied
Acoustics 38, 1993), at the level that the images have just before.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import scipy  # scipy.signal takes half a second to load: where it is first used
from numpy.typing import NDArray

from ser_features.augment.extra import need
from ser_features.augment.fields import asked, listed, number
from ser_features.augment.kind import (
    Context,
    Dice,
    Drawn,
    Kind,
    Parameter,
    Samples,
    Scene,
    noise_stream,
)
from ser_features.augment.rir import in_room
from ser_features.augment.sources import AUDIOMENTATIONS, OWN
from ser_features.augment.values import OneOf, Span, Value
from ser_features.errors import AudioError
from ser_features.records import Json

WALL = 0.5
MOST_ORDER = 110
"""Reflections of a path: 1.8 million images. More than any draw at the defaults needs (103)."""
SPEED = 343.0
"""Of sound, in m/s."""
_MATCHED, _FADE = 0.05, 0.01
_LOW = 100.0  # Hz: below it the images, all of one sign, add up to what no noise resembles
SIZE = ("length", "width", "height")
_SOURCE = f"{AUDIOMENTATIONS} (RoomSimulator)"


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """T60 in seconds; size, speaker and microphone in metres, both half a metre off every wall."""
    del context
    size = [dice.number(values[name]) for name in SIZE]
    return {
        "t60": dice.number(values["t60"]),
        "size": size,
        "speaker": [dice.uniform(WALL, one - WALL) for one in size],
        "microphone": [dice.uniform(WALL, one - WALL) for one in size],
    }


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """The recording in that room."""
    return in_room(samples, response(drawn, scene.sample_rate), scene.sample_rate)


def response(drawn: Drawn, rate: int) -> NDArray[np.float64]:
    """The room response [n] at ``rate`` Hz."""
    rooms = need("pyroomacoustics")
    _check_places(drawn)
    # Threads add up in parts of their own, and float32 sums depend on how many parts there are.
    rooms.constants.set("num_threads", 1)
    try:
        absorption, order = rooms.inverse_sabine(drawn["t60"], drawn["size"])
    except ValueError as error:
        text = f"no room of {_shown(drawn['size'])} m has a T60 of {drawn['t60']:.2f} s ({error})"
        raise AudioError("augmentation", text) from error
    room = rooms.ShoeBox(
        drawn["size"],
        fs=rate,
        materials=rooms.Material(absorption),
        max_order=min(order, MOST_ORDER),
    )
    room.add_source(drawn["speaker"])
    room.add_microphone(drawn["microphone"])
    room.compute_rir()
    exact = np.asarray(room.rir[0][0], np.float64)
    if order <= MOST_ORDER:
        return exact
    # The delay that it begins with is half a filter: what a later image adds begins where it is.
    return _with_tail(exact, int(rate * complete_until(drawn["size"])), drawn, rate)


def _check_places(drawn: Drawn) -> None:
    """AudioError where somebody is outside, which pyroomacoustics would only find out late."""
    for who in ("speaker", "microphone"):
        if not all(0 < at < one for at, one in zip(drawn[who], drawn["size"], strict=True)):
            text = f"its recorded draw puts the {who} outside of its room of"
            raise AudioError("augmentation", f"{text} {_shown(drawn['size'])} m: {drawn[who]}")


def _shown(size: Sequence[float]) -> str:
    return " x ".join(f"{one:.1f}" for one in size)


def order_of(t60: float, size: Sequence[float]) -> int:
    """The order of reflections that reaches every image within a T60 (pyroomacoustics' rule)."""
    reach = min(a * b / math.hypot(a, b) for a, b in combinations(size, 2))
    return math.ceil(SPEED * t60 / reach - 1)


def complete_until(size: Sequence[float]) -> float:
    """Seconds after the sound before which no image of a higher order than MOST_ORDER arrives.

    After n reflections along an axis an image is n - 1 lengths away, or more.
    """
    return (MOST_ORDER - 2) / math.hypot(*(1 / one for one in size)) / SPEED


def _with_tail(
    exact: NDArray[np.float64], end: int, drawn: Drawn, rate: int
) -> NDArray[np.float64]:
    """The response up to sample ``end``, then noise until it has decayed by 60 dB."""
    t60, fade = drawn["t60"], round(_FADE * rate)
    places = [*drawn["size"], *drawn["speaker"], *drawn["microphone"]]
    stream, count = noise_stream(Dice("room", t60, *places).seed()), round(t60 * rate) + fade - end
    noise = stream.standard_normal(max(count, fade))
    sections = scipy.signal.butter(4, _LOW, "highpass", fs=rate, output="sos")
    high = scipy.signal.sosfilt(sections, exact[:end])
    matched = high[end - round(_MATCHED * rate) :]
    seconds = (np.arange(len(noise)) + len(matched) / 2 - fade) / rate  # from where it is matched
    tail = np.sqrt(np.mean(matched**2)) * noise * 10 ** (-3 * seconds / t60)
    turn = (np.arange(fade) + 0.5) / fade * np.pi / 2  # both are noise there: powers add
    tail[:fade] = tail[:fade] * np.sin(turn) + exact[end - fade : end] * np.cos(turn)
    return np.concatenate([exact[: end - fade], tail])


def _may_have_tail(values: Mapping[str, Value]) -> bool:
    """Whether some draw of these values needs more than the image sources."""
    size = [min(_ends(values[name])) for name in SIZE]
    return order_of(max(_ends(values["t60"])), size) > MOST_ORDER


def _ends(value: Value) -> tuple[float, ...]:
    if isinstance(value, Span):
        return (value.low, value.high)
    return tuple(float(one) for one in value.items) if isinstance(value, OneOf) else ()


ROOM = Kind(
    name="room",
    what="a simulated room (pyroomacoustics, image source method); same length and active level",
    source=OWN,
    parameters=(
        Parameter(
            "t60", "reverberation time by Sabine's formula", "0.15-0.6", OWN, "s", "s", 0.1, 2
        ),
        Parameter("length", "of the room", "3.6-5.6", _SOURCE, "m", "m", 1.5, 30),
        Parameter("width", "of the room", "3.6-3.9", _SOURCE, "m", "m", 1.5, 30),
        Parameter("height", "of the room", "2.4-3", _SOURCE, "m", "m", 1.5, 10),
    ),
    fields=(
        asked("t60"),
        *(listed(number(name, WALL, 30), 3, 3) for name in ("size", "speaker", "microphone")),
    ),
    draw=draw,
    apply=apply,
    needs=("pyroomacoustics",),
    later=_may_have_tail,
)
