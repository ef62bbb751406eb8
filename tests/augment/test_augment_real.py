"""Real speech, noises and rooms."""

import numpy as np
import pytest

from augment_scene import RATE, augment, decibels, drawn, make
from ser_features.audio import load
from ser_features.augment.folder import one_channel
from ser_features.augment.level import active_power
from ser_features.augment.rir import in_room
from ser_features.records import Utterance


@pytest.fixture(scope="module")
def speech(shared):
    path = shared / "data" / "emodb" / "wav" / "03a01Wa.wav"
    return load(Utterance("03a01Wa", path), RATE).samples


@pytest.mark.parametrize("snr", [10, 0])
@pytest.mark.parametrize("folder", ["esc10", "speech_commands_bg"])
def test_noise_at_the_papers_levels(shared, speech, folder, snr):
    text = f"noise:snr={snr},folder={shared / 'data' / 'noise' / folder}"
    chosen = set()
    one = make(text)
    for name in map(str, range(6)):
        chosen.add(drawn(one, len(speech), name)["steps"][0]["file"])
        added = augment(text, speech, name).astype(np.float64) - speech
        found = decibels(active_power(speech, RATE) / np.mean(added**2))
        assert found == pytest.approx(snr, abs=0.1)
    assert len(chosen) > 2


def test_every_channel_of_every_measured_room(shared, speech):
    ((_, recordings),) = make(f"rir:folder={shared / 'data' / 'rir'}").folders
    assert sorted(one.channels for one in recordings) == [2, 2, 2, 2, 4, 4]
    for one in recordings:
        for channel in range(one.channels):
            wet = in_room(speech, one_channel(one, channel, RATE), RATE)
            assert len(wet) == len(speech)
            assert active_power(wet, RATE) == pytest.approx(active_power(speech, RATE), rel=1e-4)
            assert np.corrcoef(wet, speech)[0, 1] < 0.999
