"""A lower precision's deviation is measured on the corpus and kept with the features."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fake_upstream import FakeUpstream, Listener, make_corpus, run, use_fake
from ser_features.errors import UpstreamError
from ser_features.extract import precision
from ser_features.extract.precision import layer_deviation
from ser_features.store.reader import open_feature_set


class Rounded(FakeUpstream):
    """A fake upstream that really rounds to its precision."""

    def encode(self, waves):
        out = super().encode(waves)
        hidden = out.hidden.to(getattr(torch, self.precision))
        return type(out)(hidden, out.num_frames)


@pytest.fixture
def rounded(monkeypatch):
    loader = use_fake(monkeypatch)

    def load(request, *, device="cpu", precision="float32"):
        made = loader(request, device=device, precision=precision)
        made.__class__ = Rounded
        return made

    from ser_features.extract import pipeline

    monkeypatch.setattr(pipeline, "load_upstream", load)
    return loader


def test_the_deviation_is_relative_rms_over_all_frames():
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(n).astype(np.float32) for n in (900, 2000)]
    exact, half = Rounded(), Rounded(precision="bfloat16")
    found = layer_deviation(half, exact, waves)
    parts = [exact.encode([wave]) for wave in waves]
    frames = torch.cat([p.hidden[:, 0, : p.num_frames[0]] for p in parts], dim=1)  # [L, T, D]
    error = frames.bfloat16().double() - frames.double()
    want = (error.square().sum((1, 2)) / frames.double().square().sum((1, 2))).sqrt()
    np.testing.assert_allclose(found, want, rtol=1e-6)
    assert all(2**-11 < value < 2**-8 for value in found)
    assert layer_deviation(exact, exact, waves) == (0.0, 0.0, 0.0)


def test_a_new_set_of_lower_precision_says_what_that_changes(tmp_path: Path, rounded):
    manifest = make_corpus(tmp_path / "corpus", (900, 2400, 1600, 3000, 500, 700))
    listener = Listener()
    report = run(manifest, tmp_path, precision="bfloat16", progress=listener)
    (said,) = [text for text in listener.said if "deviates" in text]
    assert said.startswith("fake in bfloat16 deviates from float32 by 0.")
    stored = open_feature_set(tmp_path, report.spec).spec.provenance["deviation_from_float32"]
    assert len(stored["relative_rms_per_layer"]) == 3
    assert all(0 < value < 0.01 for value in stored["relative_rms_per_layer"])
    assert len(set(stored["utterances"])) == precision.NUM_UTTERANCES
    loaded = len(rounded.made)
    run(manifest, tmp_path, precision="bfloat16")
    assert len(rounded.made) == loaded + 1  # no reference model for a set that has it


def test_float32_and_undecodable_corpora_measure_nothing(tmp_path: Path, rounded):
    manifest = make_corpus(tmp_path / "corpus", (900, 700))
    report = run(manifest, tmp_path)
    assert "deviation_from_float32" not in report.spec.provenance
    for utterance in manifest.utterances:
        utterance.path.write_bytes(b"not audio")
    report = run(manifest, tmp_path, precision="bfloat16")
    assert len(report.rejects) == 2
    assert "deviation_from_float32" not in report.spec.provenance


def test_the_utterances_do_not_depend_on_the_manifests_order(tmp_path: Path):
    manifest = make_corpus(tmp_path / "corpus", tuple(range(400, 1400, 100)))
    some = [name for name, _ in precision._sample(manifest.utterances, FakeUpstream())]
    again = [name for name, _ in precision._sample(manifest.utterances[::-1], FakeUpstream())]
    assert some == again
    assert len(some) == 4


@pytest.mark.parametrize("scale", [1e6, float("nan")])
def test_features_that_overflow_in_a_lower_precision_are_told(tmp_path: Path, monkeypatch, scale):
    """Not a crash of the JSON in which the deviation is kept."""
    loader = use_fake(monkeypatch)

    def load(request, *, device="cpu", precision="float32"):
        made = loader(request, device=device, precision=precision)
        made.__class__ = Rounded
        made.scale = scale if precision == "float16" else 1.0
        return made

    from ser_features.extract import pipeline

    monkeypatch.setattr(pipeline, "load_upstream", load)
    manifest = make_corpus(tmp_path / "corpus", (900, 700))
    with pytest.raises(UpstreamError, match=r"'u[01]'.* NaN or infinite.* try bfloat16"):
        run(manifest, tmp_path, precision="float16")


def test_a_layer_of_zeros_does_not_deviate():
    wave = np.random.default_rng(0).standard_normal(900).astype(np.float32)
    exact = FakeUpstream(scale=0.0)
    assert layer_deviation(exact, exact, [wave]) == (0.0, 0.0, 0.0)
