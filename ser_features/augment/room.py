"""Simulated rooms: the image source method in a box (pyroomacoustics)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ser_features.augment.extra import need
from ser_features.augment.fields import asked, listed, number
from ser_features.augment.kind import Context, Dice, Drawn, Kind, Parameter, Samples, Scene
from ser_features.augment.rir import in_room
from ser_features.augment.sources import AUDIOMENTATIONS, OWN
from ser_features.augment.values import Value
from ser_features.errors import AudioError
from ser_features.records import Json

WALL = 0.5
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
    # Threads add up in parts of their own, and float32 sums depend on how many parts there are.
    rooms.constants.set("num_threads", 1)
    try:
        absorption, order = rooms.inverse_sabine(drawn["t60"], drawn["size"])
    except ValueError as error:
        size = " x ".join(f"{one:.1f}" for one in drawn["size"])
        text = f"no room of {size} m has a T60 of {drawn['t60']:.2f} s ({error})"
        raise AudioError("augmentation", text) from error
    room = rooms.ShoeBox(
        drawn["size"], fs=rate, materials=rooms.Material(absorption), max_order=order
    )
    room.add_source(drawn["speaker"])
    room.add_microphone(drawn["microphone"])
    room.compute_rir()
    return np.asarray(room.rir[0][0], np.float64)


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
)
