"""What makes a CPU fast gives what plain torch and transformers give.

Tolerance 1e-5 relative RMS on every layer in float32, as for batches: another order of the same
sums moves a layer by at most 1e-6.
"""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ser_features.upstreams import convs, exact, onednn, waveform
from ser_features.upstreams import waves as waves_of_rows
from ser_features.upstreams.convs import Convolution, GroupedProduct, NormedFirst, unfold
from ser_features.upstreams.load import load_upstream

TOLERANCE = 1e-5
KINDS = ("wav2vec2", "hubert-batch-norm", "hubert-layer-norm", "wavlm", "data2vec")


@pytest.fixture
def padded(monkeypatch):
    """The layout of a GPU on a CPU: [B, T, D] with a mask, convolutions by torch, no oneDNN."""
    monkeypatch.setattr(onednn, "usable", lambda dtype: False)
    monkeypatch.setattr(waveform, "Batch", lambda packed: exact.Batch(packed=False))


@pytest.mark.parametrize("kind", [*KINDS, "wavlm-layer-norm", "mms-adapters", "unispeech-sat"])
@pytest.mark.parametrize("lengths", [(400, 719, 720, 8000), (3000, 3010), (1600, 12800)])
def test_the_layout_of_a_gpu_equals_transformers(
    kind, lengths, padded, checkpoint, noise, alone, distance
):
    folder, model = checkpoint(kind)
    waves = noise(*lengths)
    upstream = load_upstream(str(folder))
    assert upstream.info.provenance["kernels"] == "torch"
    out = upstream.encode(waves)
    for b, (wave, end) in enumerate(zip(waves, out.num_frames, strict=True)):
        assert distance(out.hidden[:, b, :end], alone(model, wave)) <= TOLERANCE


@pytest.fixture
def masks(monkeypatch):
    """The mask or bias of every call of SDPA, in the order of the calls."""
    given, plain = [], F.scaled_dot_product_attention

    def spy(*args, attn_mask=None, **options):
        given.append(attn_mask)
        return plain(*args, attn_mask=attn_mask, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    return given


@pytest.mark.parametrize("kind", [*KINDS, "wavlm-layer-norm", "mms-adapters", "unispeech-sat"])
def test_a_batch_without_padding_has_no_mask_and_the_same_features(
    kind, padded, masks, monkeypatch, checkpoint, noise, distance
):
    """Flash attention takes no mask. WavLM's bias is always one, but then it masks nothing."""
    folder, waves = checkpoint(kind).folder, noise(3000, 3010, 2900)  # 9, 9 and 8 frames
    upstream = load_upstream(str(folder))
    masks.clear()  # loading tries the layers
    free = upstream.encode(waves[:2]).hidden
    gated = kind.startswith("wavlm")
    assert [mask is None for mask in masks] == [not gated] * 2
    assert not gated or all(torch.isfinite(mask).all() for mask in masks)

    def masked(batch, frames, device):
        batch.frames, batch.mask = frames, torch.ones(2, max(frames), dtype=torch.bool)

    with monkeypatch.context() as patch:
        patch.setattr(exact.Batch, "set", masked)
        assert distance(upstream.encode(waves[:2]).hidden, free) <= 1e-6
    assert all(mask is not None for mask in masks[2:])
    masks.clear()
    upstream.encode(waves)
    assert all(mask is not None for mask in masks)


def test_whisper_never_has_a_mask(masks, monkeypatch, checkpoint, noise):
    monkeypatch.setattr(onednn, "usable", lambda dtype: False)
    upstream = load_upstream(str(checkpoint("whisper").folder))
    upstream.encode(noise(9000, 31000))
    assert masks == [None] * 2


@pytest.mark.parametrize("length", [400, 3000])
def test_wavlms_bias_is_contiguous(length, padded, masks, checkpoint, noise):
    """As the memory-efficient kernel of a GPU needs it: the last dimension without gaps."""
    load_upstream(str(checkpoint("wavlm").folder)).encode(noise(length, 6000))
    assert masks
    assert all(mask.stride(-1) == 1 for mask in masks)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["hubert-base", "data2vec-base", "whisper-tiny"])
def test_a_gpu_runs_flash_attention_where_nothing_is_padded(name, noise):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    upstream = load_upstream(f"{name}@random:0", device="cuda", precision="bfloat16")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        upstream.encode(noise(16000, 16010))
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        upstream.encode(noise(16000, 8000))


@pytest.mark.gpu
def test_a_gpu_waits_for_nothing(noise):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    names = ("hubert-base", "wavlm-base", "data2vec-base", "whisper-tiny", "wav2vec", "cnn14-16k")
    for name in (*(f"{name}@random:0" for name in names), "fbank"):
        upstream = load_upstream(name, device="cuda", precision="bfloat16")
        upstream.encode(noise(16000, 8000))
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            upstream.encode(noise(16000, 8000))
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_whisper_without_onednn(monkeypatch, checkpoint, noise, distance):
    folder, _ = checkpoint("whisper")
    waves = noise(9000, 31000)
    fast = load_upstream(str(folder)).encode(waves)
    monkeypatch.setattr(onednn, "usable", lambda dtype: False)
    plain = load_upstream(str(folder)).encode(waves)
    for b, end in enumerate(fast.num_frames):
        assert distance(fast.hidden[:, b, :end], plain.hidden[:, b, :end]) <= TOLERANCE


@pytest.mark.parametrize("piece", [1, 2, 7])
@pytest.mark.parametrize("kind", ["hubert", "data2vec"])
def test_pieces_of_an_utterance_join_exactly(
    kind, piece, monkeypatch, checkpoint, noise, alone, distance
):
    monkeypatch.setattr(convs, "PIECE", piece)
    folder, model = checkpoint(kind)
    waves = noise(400, 5000, 2399)
    out = load_upstream(str(folder)).encode(waves)
    for b, (wave, end) in enumerate(zip(waves, out.num_frames, strict=True)):
        assert distance(out.hidden[:, b, :end], alone(model, wave)) <= TOLERANCE


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 4e-3)])
def test_a_packed_product_is_a_linear_layer_with_the_exact_gelu(gelu, dtype, tolerance):
    if not onednn.usable(dtype):
        pytest.skip("this torch reaches no oneDNN on this CPU")
    torch.manual_seed(0)
    linear = nn.Linear(96, 40).requires_grad_(False).to(dtype)
    x = 2 * torch.randn(3, 50, 96).to(dtype)
    got = onednn.PackedLinear(linear, gelu=gelu)(x).double()
    want = F.linear(x.double(), linear.weight.double(), linear.bias.double())
    other = F.gelu(want, approximate="tanh")
    want = F.gelu(want) if gelu else want
    assert distance_of(got, want) < tolerance  # bfloat16: half a unit of its 8 bits
    if gelu and dtype == torch.float32:
        assert distance_of(got, other) > 20 * distance_of(got, want)


def test_where_the_operators_differ_nothing_is_packed(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(onednn, "product", broken)
    onednn.usable.cache_clear()
    assert not onednn.usable(torch.float32)
    monkeypatch.setattr(onednn, "product", lambda x, *_, **__: x)
    onednn.usable.cache_clear()
    assert not onednn.usable(torch.float32)
    monkeypatch.undo()
    onednn.usable.cache_clear()
    assert not onednn.usable(torch.float16)


@pytest.mark.parametrize("offset", [0.0, 0.4])
@pytest.mark.parametrize("loudness", [1e-4, 0.1])
def test_the_folded_group_norm_is_group_norm_in_double_precision(offset, loudness):
    """A quiet recording on a large offset: float32 GroupNorm itself loses digits there."""
    torch.manual_seed(0)
    conv, norm = nn.Conv1d(1, 24, 10, stride=5), nn.GroupNorm(24, 24)
    for weight in norm.parameters():
        weight.data.add_(torch.randn(24))
    wave = offset + loudness * torch.randn(3000)
    first = NormedFirst(conv.requires_grad_(False), norm.requires_grad_(False), gelu=True)
    centred = wave - wave.mean()
    got = first(centred[None], first.fold(centred[None], [3000]))[0]
    want = F.gelu(norm.double()(conv.double()(wave.double()[None, None])))[0].T
    # what float32 keeps of the waveform itself beside its offset
    limit = 2e-6 + 2 * offset * 2**-24 / loudness
    assert distance_of(got.double(), want.detach()) < limit


def test_the_fold_of_a_batch_is_that_of_each_alone():
    torch.manual_seed(0)
    conv, norm = nn.Conv1d(1, 24, 10, stride=5), nn.GroupNorm(24, 24)
    first = NormedFirst(conv.requires_grad_(False), norm.requires_grad_(False), gelu=True)
    x, ends = torch.randn(3, 3000), (3000, 10, 1234)
    weights, shifts = first.fold(x, ends)
    for b, end in enumerate(ends):
        weight, shift = first.fold(x[b : b + 1, :end], [end])
        torch.testing.assert_close(weights[b], weight[0])
        torch.testing.assert_close(shifts[b], shift[0])


def test_a_gpus_normalisation_is_that_of_each_row(noise):
    x, waves = torch.zeros(3, 5000), noise(5000, 400, 1601)
    for row, wave in zip(x, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    want = waves_of_rows.normalize_(x.clone(), [5000, 400, 1601])
    got = waves_of_rows._normalize_padded_(x, [5000, 400, 1601])
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert not got[1, 400:].any()


def test_digital_silence_gives_the_norms_shift():
    conv, norm = nn.Conv1d(1, 8, 10, stride=5), nn.GroupNorm(8, 8)
    first = NormedFirst(conv.requires_grad_(False), norm.requires_grad_(False), gelu=False)
    wave = torch.zeros(500)
    got = first(wave[None], first.fold(wave[None], [500]))
    assert torch.equal(got, norm.bias.detach().expand_as(got))


def test_windows_and_both_convolutions(monkeypatch):
    torch.manual_seed(0)
    conv = nn.Conv1d(6, 9, 3, stride=2).requires_grad_(False)
    x = torch.randn(2, 31, 6)
    want = conv(x.transpose(1, 2)).transpose(1, 2)
    assert unfold(x, 3, 2).shape == (2, 15, 18)
    torch.testing.assert_close(Convolution(conv, gelu=False)(x), want)
    monkeypatch.setattr(onednn, "usable", lambda dtype: False)
    torch.testing.assert_close(Convolution(conv, gelu=False)(x), want)
    torch.testing.assert_close(Convolution(conv, gelu=True)(x), F.gelu(want))


@pytest.mark.parametrize("kernel", [15, 16])
def test_a_grouped_product_is_a_grouped_convolution(kernel):
    torch.manual_seed(0)
    conv = nn.Conv1d(12, 24, kernel, padding=kernel // 2, groups=3).requires_grad_(False)
    x = torch.randn(2, 12, 40)
    torch.testing.assert_close(GroupedProduct(conv)(x), conv(x), rtol=1e-5, atol=1e-6)


def test_bfloat16_of_narrow_groups_on_a_cpu(tmp_path, noise, distance):
    """torch's own bfloat16 convolution of under 16 channels a group is wrong there (torch 2.13)."""
    values = {"model_type": "hubert", "hidden_size": 32, "num_hidden_layers": 1}
    values |= {"num_attention_heads": 2, "conv_dim": [32] * 7, "intermediate_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    exact, half = (
        load_upstream(f"x@random:0={tmp_path}", precision=name) for name in ("float32", "bfloat16")
    )
    waves = noise(4000, 9000)
    want, got = exact.encode(waves), half.encode(waves)
    for b, end in enumerate(want.num_frames):
        error = distance(got.hidden[:, b, :end].float(), want.hidden[:, b, :end])
        assert 1e-5 < error < 0.05


def distance_of(got, want) -> float:
    return float(((got - want).square().mean() / want.square().mean()).sqrt())
