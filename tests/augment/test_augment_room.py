"""Simulated rooms: what they decay like, and what they may cost."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from augment_scene import RATE, augment, drawn, make, white
from cli_runner import environment
from hostile import bounded
from ser_features.augment import room
from ser_features.augment.room import response
from ser_features.errors import AudioError

pytest.importorskip("pyroomacoustics", reason="needs the extra 'augment'")


def reverberation(echo: np.ndarray) -> float:
    """T60 in seconds, from a decay from -5 to -25 dB."""
    decay = np.cumsum(echo[::-1] ** 2)[::-1]
    level = 10 * np.log10(decay / decay[0] + 1e-12)
    early, late = (int(np.argmax(level < edge)) for edge in (-5, -25))
    return 3 * (late - early) / RATE


@pytest.mark.parametrize("t60", [0.2, 0.4])
def test_a_simulated_room_has_about_the_asked_reverberation_time(t60: float) -> None:
    step = drawn(make(f"room:t60={t60}"), 16000)["steps"][0]
    # Sabine's formula is no exact description of a small box.
    assert reverberation(response(step, RATE)) == pytest.approx(t60, rel=0.45)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_a_tail_of_noise_decays_as_the_images_would(name: str, monkeypatch) -> None:
    step = drawn(make("room:t60=0.35,length=4,width=3.5,height=2.5"), 16000, name)["steps"][0]
    whole = response(step, RATE)
    monkeypatch.setattr(room, "MOST_ORDER", 25)
    short, end = response(step, RATE), int(room.complete_until(step["size"]) * RATE)
    exact = end - round(0.01 * RATE)  # where the noise begins to come in
    # pyroomacoustics takes what is below 10 Hz out of the whole response, backwards too.
    near = 1e-3 * np.abs(whole).max()
    np.testing.assert_allclose(short[:exact], whole[:exact], atol=near)
    assert np.abs(short[end:][:100] - whole[end:][:100]).max() > near
    assert reverberation(short) == pytest.approx(reverberation(whole), rel=0.1)
    levels = [10 * np.log10(np.sum(np.diff(each[end:]) ** 2)) for each in (short, whole)]
    assert levels[0] == pytest.approx(levels[1], abs=2)


def test_a_long_reverberation_takes_little_memory(monkeypatch) -> None:
    """All images of 2 s in a box of 1.5 m would be 360 million."""
    assert room.order_of(2, (1.5, 1.5, 1.5)) == 646
    monkeypatch.setattr(room, "MOST_ORDER", 25)
    step = drawn(make("room:t60=2,length=1.5,width=1.5,height=1.5"), 16000)["steps"][0]
    with bounded():
        echo = response(step, RATE)
    assert len(echo) == pytest.approx(2 * RATE, rel=0.01)
    assert reverberation(echo) == pytest.approx(2, rel=0.2)
    np.testing.assert_array_equal(echo, response(step, RATE))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("room", 1),
        ("room:t60=0.6", 1),
        ("room:t60=0.1-0.7", 2),
        ("room:t60=0.6,height=1.5", 2),
        ("room:t60=2,length=30,width=30,height=10", 1),
    ],
)
def test_only_rooms_that_changed_have_another_key(text: str, version: int) -> None:
    assert make(text).identity["steps"][0]["version"] == version


def test_what_no_room_can_be_is_said() -> None:
    with pytest.raises(AudioError, match="has a T60"):
        augment("room:t60=0.1,length=30,width=30,height=10", white(0.1))


@pytest.mark.parametrize("place", ["speaker", "microphone"])
def test_nobody_stands_outside_of_the_room(place: str) -> None:
    step = drawn(make("room"), 16000)["steps"][0]
    with pytest.raises(AudioError, match=f"the {place} outside of its room of"):
        response({**step, place: [1.0, 9.0, 1.0]}, RATE)


def test_the_benchmark_runs(shared: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_rooms.py"
    command = [sys.executable, script, "--quick", "--emodb", shared / "data" / "emodb"]
    done = subprocess.run(command, check=True, env=environment(), capture_output=True, timeout=120)
    (row,) = map(json.loads, done.stdout.splitlines())
    assert row["order"] == 46
    for name in ("echo", "heard"):
        assert row["median_least_most"][name][0] == pytest.approx(0.3, abs=0.15)
