"""wav2vec and vq-wav2vec: s3prl's layers on s3prl's checkpoints, whatever the batch."""

import argparse
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from s3prl_process import run_s3prl
from ser_features.errors import UpstreamError
from ser_features.upstreams.load import load_upstream
from ser_features.upstreams.native import parse_convs
from ser_features.upstreams.valid import ValidGroups

KINDS = ("plain", "gumbel", "separate", "kmeans", "bare")
TINY = {
    "conv_feature_layers": "[(32, 10, 5), (32, 8, 4)] + [(32, 4, 2)] * 3",
    "conv_aggregator_layers": "[(32, 2, 1), (32, 3, 1)]",
    "vq_vars": 16,
}


@pytest.fixture(scope="module")
def s3prl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3prl")
    run_s3prl(Path(__file__).with_name("s3prl_wav2vec.py"), folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["cpu", "gpu"])
def test_layers_are_those_of_s3prl(kind, layout, s3prl, gpu_layout):
    """1e-5 of the largest value: the norms sum in another order."""
    waves, want = np.load(s3prl / "waves.npz"), np.load(s3prl / f"{kind}.npz")
    name = "wav2vec" if kind in ("plain", "bare") else "vq-wav2vec"
    upstream = load_upstream(f"{name}={s3prl / kind}.pt")
    with gpu_layout() if layout == "gpu" else nullcontext():
        out = upstream.encode([waves[n] for n in waves.files])  # one ragged batch
    assert upstream.info.num_layers == 4
    for b, n in enumerate(waves.files):
        layers = want[n]  # [L, T, D]
        assert out.num_frames[b] == layers.shape[1]
        got = out.hidden[:, b, : layers.shape[1]].numpy()
        assert np.abs(got - layers).max() <= 1e-5 * np.abs(layers).max()


def fairseq_file(path, rng_seed=0, **options):
    """A checkpoint in fairseq's own form: an argparse namespace and a state."""
    from ser_features.upstreams.native import wav2vec_shape
    from ser_features.upstreams.wav2vec import Wav2VecModel

    torch.manual_seed(rng_seed)
    options = TINY | options
    model = Wav2VecModel(wav2vec_shape(options, {}, "test"))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    state = model.state_dict() | {"wav2vec_predictions.project_to_steps.bias": torch.zeros(3)}
    torch.save({"args": argparse.Namespace(arch="wav2vec", **options), "model": state}, path)
    return path


@pytest.mark.parametrize("quantizer", ["none", "gumbel", "kmeans"])
@settings(
    max_examples=10, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(lengths=st.lists(st.integers(465, 5000), min_size=1, max_size=4))
@example(lengths=[465, 624, 625, 5000])
def test_a_batch_changes_nothing(quantizer, lengths, tmp_path_factory, noise, gpu_layout, distance):
    folder = tmp_path_factory.mktemp("wav2vec")
    path = fairseq_file(folder / "w.pt", vq_type=quantizer)
    upstream = load_upstream(f"wav2vec={path}")
    waves = noise(*lengths)
    out = upstream.encode(waves)
    with gpu_layout():
        padded = upstream.encode(waves)
    expected = tuple((n - 465) // 160 + 1 for n in lengths)
    assert out.num_frames == padded.num_frames == expected
    for b, (wave, end) in enumerate(zip(waves, out.num_frames, strict=True)):
        alone = upstream.encode([wave]).hidden[:, 0]
        for one in (out, padded):
            assert distance(one.hidden[:, b, :end], alone) <= 1e-5


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near(precision, noise, gpu_layout, distance):
    full = load_upstream("wav2vec@random:0")
    half = load_upstream("wav2vec@random:0", precision=precision)
    waves = noise(1600, 700, 465)
    outs = [half.encode(waves)]
    with gpu_layout():
        outs.append(half.encode(waves))
        alone = [half.encode([wave]).hidden[:, 0].float() for wave in waves]
    limit = 0.05 if precision == "bfloat16" else 0.01
    for b, wave in enumerate(waves):
        want = full.encode([wave]).hidden[:, 0]
        for out in outs:
            got = out.hidden[:, b, : out.num_frames[b]]
            assert got.dtype == getattr(torch, precision)
            assert 1e-5 < distance(got.float(), want) < limit
        assert distance(got.float(), alone[b]) < limit / 2


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    ends=st.lists(st.integers(1, 40), min_size=1, max_size=4), groups=st.sampled_from([1, 2, 8]),
    affine=st.booleans(), offset=st.sampled_from([0.0, 3.0, -40.0]),
    precision=st.sampled_from(["float32", "bfloat16", "float16"]),
)  # fmt: skip
def test_both_forms_of_the_norm_are_group_norm_alone(ends, groups, affine, offset, precision):
    """What lies in the padding does not matter, nor a mean far from zero."""
    torch.manual_seed(sum(ends))
    dtype = getattr(torch, precision)
    norm = ValidGroups(groups, 16, affine=affine).requires_grad_(False)
    for weight in norm.parameters():
        weight.normal_()
    norm, x = norm.to(dtype), (offset + torch.randn(len(ends), 16, max(ends))).to(dtype)
    for b, end in enumerate(ends):
        x[b, :, end:] = 1000.0
    weights = [None if w is None else w.double() for w in (norm.weight, norm.bias)]
    limit = {"float32": 3e-5, "float16": 2e-3, "bfloat16": 2e-2}[precision]
    for form in (norm.each, norm.padded):
        y = form(x, ends)
        assert y.dtype == dtype
        assert torch.isfinite(y).all()
        for b, end in enumerate(ends):
            want = F.group_norm(x[b : b + 1, :, :end].double(), groups, *weights)[0]
            torch.testing.assert_close(y[b, :, :end].double(), want, rtol=limit, atol=limit)


def test_a_frame_of_padding_would_be_seen_by_the_plain_norm(noise):
    """The masked norm is needed: the same model over a padded wave gives something else."""
    upstream = load_upstream("wav2vec@random:0")
    (wave,) = noise(4000)
    padded = np.pad(wave, (0, 4000))
    alone, other = (upstream.encode([x]).hidden[:, 0, :20] for x in (wave, padded))
    assert (alone - other).square().mean().sqrt() > 1e-3 * alone.square().mean().sqrt()


@pytest.mark.parametrize("name", ["wav2vec", "vq-wav2vec"])
def test_published_shape(name, noise):
    upstream = load_upstream(f"{name}@random:0")
    info = upstream.info
    assert (info.num_layers, info.dim, info.hop, info.receptive_field) == (13, 512, 160, 465)
    out = upstream.encode(noise(1600))
    assert out.hidden.shape == (13, 1, (1600 - 465) // 160 + 1, 512)
    assert torch.isfinite(out.hidden).all()
    again = load_upstream(f"{name}@random:0")
    assert again.info.identity == info.identity
    assert load_upstream(f"{name}@random:1").info.identity != info.identity


def test_nothing_in_a_checkpoint_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": {}, "args": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UpstreamError, match=r"refused to load .*evil\.pt"):
        load_upstream(f"wav2vec={tmp_path / 'evil.pt'}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"aggregator": "gru"}, "aggregator is 'gru'"),
        ({"conv_aggregator_layers": "__import__('os').getcwd()"}, "not a wav2vec configuration"),
        ({"conv_aggregator_layers": "[(32, 2, 1)] * 1000000000"}, "more than 100 convolutions"),
        ({"conv_aggregator_layers": "[(48, 2, 1)]"}, r"widths \[32, 48\]"),
        ({"vq_type": "other"}, "quantizer 'other'"),
        ({"vq_vars": 17, "vq_type": "gumbel"}, "weights"),
        ({"activation": 5}, "activation is '5'; expected a word"),
        ({"vq_dim": 16}, "vq_dim is 16; expected 32, or 0 for it"),
        ({"vq_groups": 3}, "3 groups of 16 codes; expected"),
        ({"vq_groups": 0}, "0 groups of 16 codes; expected"),
        ({"vq_vars": 0}, "2 groups of 0 codes; expected"),
        ({"conv_aggregator_layers": "[(32, 2, 2)]"}, "conv_aggregator_layers has strides over 1"),
    ],
)
def test_bad_configurations_are_named(options, words, tmp_path):
    path = fairseq_file(tmp_path / "w.pt", vq_type="gumbel")
    content = torch.load(path, weights_only=False)
    vars(content["args"]).update(options)
    torch.save(content, path)
    with pytest.raises(UpstreamError, match=words) as raised:
        load_upstream(f"wav2vec={path}")
    assert str(path) in str(raised.value)


def test_a_folder_needs_one_file(tmp_path):
    with pytest.raises(UpstreamError, match=r"no file .*gone\.pt; expected .* of wav2vec"):
        load_upstream(f"wav2vec={tmp_path / 'gone.pt'}")
    with pytest.raises(UpstreamError, match="holds 0 checkpoint files"):
        load_upstream(f"wav2vec={tmp_path}")
    fairseq_file(tmp_path / "w.pt")
    assert load_upstream(f"wav2vec={tmp_path}").info.num_layers == 3


@given(st.lists(st.tuples(*[st.integers(1, 600)] * 3), max_size=4), st.integers(1, 5))
def test_convolutions_read_back(convs, times):
    assert parse_convs(str(convs)) == tuple(convs)
    assert parse_convs(f"{convs} + {convs} * {times}") == tuple(convs) * (1 + times)
