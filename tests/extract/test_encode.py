"""One shard through an upstream: batches that do not fit, values that are none, real weights."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fake_upstream import (
    FakeUpstream,
    Listener,
    alone,
    content_by_id,
    make_corpus,
    manifest_of,
    run,
    tiny_shards,
    use_fake,
)
from ser_features.audio import load
from ser_features.errors import UpstreamError
from ser_features.extract import encode, shards
from ser_features.extract.encode import out_of_memory, start_shard
from ser_features.extract.pooling import pool, ragged_frames
from ser_features.manifest import Manifest
from ser_features.store.reader import open_feature_set
from ser_features.store.verify import verify
from ser_features.upstreams.load import load_upstream

LENGTHS = (900, 160, 2400, 2400, 5000, 333, 8000, 1234)
KINDS = ("mean", "std", "mean_layernorm")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_corpus(tmp_path / "corpus", LENGTHS)


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(160, 3000), min_size=1, max_size=9),
    budget=st.integers(1, 20_000),
    fit=st.integers(1, 4),
    with_frames=st.booleans(),
    lanes=st.integers(1, 3),
)
def test_whatever_the_batches_every_utterance_is_as_alone(lengths, budget, fit, with_frames, lanes):
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(n).astype(np.float32) for n in sorted(lengths, reverse=True)]
    ids = [f"u{i}" for i in range(len(waves))]
    upstream = FakeUpstream(fit=fit)
    encoded = start_shard(upstream, ids, waves, budget, with_frames, lanes=lanes).collect()
    assert sum(size for size in upstream.batches if size <= fit) == len(waves)
    assert encoded.num_frames == tuple(upstream.num_frames(len(wave)) for wave in waves)
    single = [upstream.encode([wave]) for wave in waves]
    for i, out in enumerate(single):
        expected = pool(out.hidden, out.num_frames)
        for kind in KINDS:  # sums over a padded batch add in another order: rounding only
            row, want = getattr(encoded.pooled, kind)[i], getattr(expected, kind)[0]
            np.testing.assert_allclose(row, want, rtol=0, atol=5e-6)
    if not with_frames:
        assert encoded.frames is None
        return
    frames = np.concatenate([ragged_frames(out.hidden, out.num_frames) for out in single])
    assert encoded.frames is not None
    np.testing.assert_array_equal(encoded.frames, frames)


def test_halves_are_tried_in_order_until_they_fit():
    upstream = FakeUpstream(fit=2)
    waves = [np.ones(400, np.float32)] * 7
    start_shard(upstream, [f"u{i}" for i in range(7)], waves, 10**6, False)
    assert upstream.batches == [7, 3, 1, 2, 4, 2, 2]


@pytest.mark.parametrize("fit", [1, 2, 3, 5])
def test_a_batch_that_does_not_fit_is_split(tmp_path, monkeypatch, fit):
    loader = use_fake(monkeypatch, fit=fit)
    manifest = make_corpus(tmp_path / "corpus", (*LENGTHS, *[2400] * 4))  # six in one batch
    report = run(manifest, tmp_path, frames=True)
    assert max(loader.made[-1].batches) > fit  # it was tried
    found = open_feature_set(tmp_path, report.spec)
    for utterance in manifest.utterances:
        mean, std, normed, frames = alone(FakeUpstream(), utterance)
        np.testing.assert_array_equal(found.frames(utterance.id), frames.astype(np.float16))
        for kind, value in (("mean", mean), ("std", std), ("mean_layernorm", normed)):
            row = found.pooled(kind, [utterance.id])[0]
            np.testing.assert_allclose(row, value, rtol=0, atol=5e-6)


def test_what_is_out_of_memory_and_what_is_not():
    assert out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_lanes_stop_at_an_error_and_give_torch_its_threads_back(monkeypatch):
    upstream, before = FakeUpstream(), torch.get_num_threads()
    monkeypatch.setattr(upstream, "encode", lambda waves: 1 / (len(waves[0]) - 400))
    with pytest.raises(ZeroDivisionError):
        start_shard(upstream, ["a", "b"], [np.ones(400, np.float32)] * 2, 400, False, lanes=2)
    assert torch.get_num_threads() == before


def test_lanes_run_side_by_side_and_what_is_over_the_budget_alone(monkeypatch):
    lengths, budget = (3000, 2000, 800, 800, 800, 800), 1000
    upstream, encode_one = FakeUpstream(), FakeUpstream().encode
    meet, running, together = threading.Barrier(2, timeout=30), [], set()

    def encoding(waves):
        running.append(len(waves[0]))
        if len(waves[0]) <= budget:
            meet.wait()
        together.add(tuple(running))
        if len(waves[0]) <= budget:
            meet.wait()
        running.remove(len(waves[0]))
        return encode_one(waves)

    monkeypatch.setattr(upstream, "encode", encoding)
    waves = [np.ones(n, np.float32) for n in lengths]
    start_shard(upstream, list("abcdef"), waves, budget, False, lanes=2)
    assert together == {(3000,), (2000,), (800, 800)}


def test_as_many_lanes_as_threads_while_memory_lasts_and_one_on_a_gpu():
    assert [shards.lanes_of("cpu", threads) for threads in (1, 2, 8, 96)] == [1, 2, 8, 8]
    assert shards.lanes_of("cuda:0", 16) == 1


def test_another_error_is_not_retried(monkeypatch):
    upstream, tried = FakeUpstream(), []

    def fail(waves):
        tried.append(len(waves))
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(upstream, "encode", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        start_shard(upstream, ["a", "b"], [np.ones(400, np.float32)] * 2, 10**6, False)
    assert tried == [2]


def test_a_device_has_the_next_shard_before_the_last_is_collected(tmp_path, monkeypatch, manifest):
    """As on a GPU, whose copies are under way: start, start, collect, start, collect, collect."""
    tiny_shards(monkeypatch)
    use_fake(monkeypatch)
    want = content_by_id(tmp_path / "cpu", run(manifest, tmp_path / "cpu", frames=True).spec)
    events, start, collect = [], shards.start_shard, encode.Encoding.collect
    monkeypatch.setattr(encode.Encoding, "done", False)

    def starting(*args, **options):
        events.append("start")
        return start(*args, **options)

    def collecting(encoding):
        events.append("collect")
        return collect(encoding)

    monkeypatch.setattr(shards, "start_shard", starting)
    monkeypatch.setattr(encode.Encoding, "collect", collecting)
    report = run(manifest, tmp_path / "gpu", frames=True)
    assert content_by_id(tmp_path / "gpu", report.spec) == want
    count = len(events) // 2
    assert count > 2
    assert events == ["start", *["start", "collect"] * (count - 1), "collect"]


def test_one_utterance_that_does_not_fit_is_named(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch, fit_samples=6000)
    with pytest.raises(
        UpstreamError,
        match=r"fake: utterance 'u6' of 1\.0 s does not fit the device's memory even alone; "
        r"reject long ones with --max-seconds, or use --device cpu",
    ):
        run(manifest, tmp_path)
    report = run(manifest, tmp_path, max_seconds=0.75)
    assert [row.id for row in report.rejects] == ["u6"]
    assert report.num_new == len(LENGTHS) - 1
    assert open_feature_set(tmp_path, report.spec).complete


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_outputs_that_are_not_finite_are_an_error_and_not_stored(
    tmp_path, monkeypatch, manifest, frames, value
):
    tiny_shards(monkeypatch)
    part = replace(manifest, utterances=manifest.utterances[:3])
    with monkeypatch.context() as patch:
        use_fake(patch)
        spec = run(part, tmp_path, frames=frames).spec
    before = content_by_id(tmp_path, spec)
    use_fake(monkeypatch, poison=value)
    listener = Listener()
    with pytest.raises(UpstreamError, match="fake: the features of utterance 'u6' are NaN or inf"):
        run(manifest, tmp_path, frames=frames, progress=listener)
    assert not any("float32" in text for text in listener.said)
    assert content_by_id(tmp_path, spec) == before
    assert verify(tmp_path).ok
    use_fake(monkeypatch)
    assert run(manifest, tmp_path, frames=frames).num_new == len(LENGTHS) - 3


def test_a_real_encoder_gives_what_transformers_gives_alone(tmp_path, shared):
    """Six recordings of different lengths in one batch; every pooled mean and every frame."""
    folder = shared / "weights" / "whisper-tiny.en-encoder"
    paths = sorted((shared / "data" / "emodb" / "wav").glob("*.wav"))[:6]
    report = run(manifest_of(paths), tmp_path, f"whisper-tiny.en={folder}", frames=True)
    found = open_feature_set(tmp_path, report.spec)
    encoder = WhisperEncoder(WhisperConfig.from_pretrained(folder)).eval()
    state = load_file(folder / "model.safetensors")
    encoder.load_state_dict({k.removeprefix("model.encoder."): v.float() for k, v in state.items()})
    for utterance in manifest_of(paths).utterances:
        wave = load(utterance, 16_000).samples
        layers = plain_whisper(encoder, wave)  # [L, T, D]
        mean = found.pooled("mean", [utterance.id])[0]
        assert distance(mean, layers.mean(1)) <= 1e-5
        frames = found.frames(utterance.id).astype(np.float32)
        assert frames.shape[0] == -(-len(wave) // 320)
        # float16 rounds to 11 bits: 2**-11 of each value at most
        assert distance(frames.transpose(1, 0, 2), layers) <= 2**-11


def plain_whisper(encoder: WhisperEncoder, wave: np.ndarray) -> np.ndarray:
    extractor = WhisperFeatureExtractor()
    features = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        out = encoder(features, output_hidden_states=True)
    layers = torch.stack([*out.hidden_states[:-1], out.last_hidden_state])[:, 0]
    return layers[:, : -(-len(wave) // 320)].double().numpy()


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest relative RMS error of a layer; both [L, …]."""
    axes = tuple(range(1, expected.ndim))
    error = np.sqrt(np.square(found - expected).mean(axes) / np.square(expected).mean(axes))
    return float(error.max())


@pytest.mark.gpu
def test_a_gpu_sends_what_a_cpu_computes():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    waves = [np.random.default_rng(n).standard_normal(n).astype(np.float32) for n in (9000, 4000)]
    want, got = (
        start_shard(
            load_upstream("hubert-base@random:0", device=name), ["a", "b"], waves, 9000, True,
            halve=True,
        ).collect()
        for name in ("cpu", "cuda")
    )  # fmt: skip
    assert got.frames is not None
    assert want.frames is not None
    assert got.frames.dtype == np.float16
    np.testing.assert_allclose(got.frames, want.frames, rtol=2e-3, atol=1e-4)
    for kind in KINDS:
        np.testing.assert_allclose(getattr(got.pooled, kind), getattr(want.pooled, kind), atol=1e-4)


@pytest.mark.gpu
def test_a_gpu_that_runs_out_of_memory_splits_the_batch():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(160_000).astype(np.float32) for _ in range(16)]
    upstream = load_upstream("hubert-base@random:0", device="cuda")
    ids, sizes, plain = [f"u{i}" for i in range(16)], list[int](), upstream.encode
    want = start_shard(upstream, ids, waves, 10**9, True).collect()

    def encode(part):
        sizes.append(len(part))
        return plain(part)

    upstream.encode = encode
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    taken = torch.cuda.memory_allocated()
    torch.cuda.set_per_process_memory_fraction((taken + 2**30) / total)
    try:
        got = start_shard(upstream, ids, waves, 10**9, True).collect()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert sizes[0] == 16  # 160 s: the first convolution's output alone is 1.05 GB
    assert len(sizes) > 1
    np.testing.assert_allclose(got.pooled.mean, want.pooled.mean, atol=1e-4)
