"""The features of an utterance do not depend on its batch, and are those of transformers."""

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2FeatureExtractor

from ser_features.errors import UpstreamError
from ser_features.upstreams.catalog import CATALOG
from ser_features.upstreams.families import FAMILIES
from ser_features.upstreams.load import load_upstream
from ser_features.upstreams.waves import normalize_
from ser_features.upstreams.weights import build_config, random_model

KINDS = (
    "wav2vec2", "wav2vec2-layer-norm", "mms-adapters", "hubert", "hubert-layer-norm",
    "hubert-batch-norm", "wavlm", "wavlm-layer-norm", "data2vec", "unispeech-sat",
    "unispeech-sat-layer-norm",
)  # fmt: skip
TOLERANCE = 1e-5
# One of every family and kind.
CUDA = (
    "hubert-base", "hubert-large", "wav2vec2-base", "wavlm-base", "wavlm-large", "data2vec-base",
    "unispeech-sat-base", "whisper-tiny", "wav2vec", "cnn14-16k", "fbank",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(lengths=st.lists(st.integers(400, 6400), min_size=1, max_size=4))
@example(lengths=[1600, 12800])  # 8x padding
@example(lengths=[400, 719, 720, 8000])
@example(lengths=[3000, 3000])
@example(lengths=[3000, 3010])  # as many frames, other samples
def test_batch_equals_transformers_alone(kind, lengths, checkpoint, noise, alone, distance):
    folder, model = checkpoint(kind)
    waves = noise(*lengths)
    upstream = load_upstream(str(folder))
    out = upstream.encode(waves)
    assert out.num_frames == tuple((n - 400) // 320 + 1 for n in lengths)
    assert out.hidden.shape == (3, len(waves), max(out.num_frames), 32)
    assert torch.isfinite(out.hidden).all()
    for b, (wave, end) in enumerate(zip(waves, out.num_frames, strict=True)):
        assert distance(out.hidden[:, b, :end], alone(model, wave)) <= TOLERANCE


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "data2vec", "unispeech-sat"])
def test_plain_transformers_leaks_padding(kind, checkpoint, noise, alone, distance):
    """The repairs are needed: without them, and with a mask, the same comparison fails."""
    _, model = checkpoint(kind)
    short, long = (torch.from_numpy(x) for x in noise(2400, 9600))
    x = torch.zeros(2, 9600)
    x[0, :2400], x[1] = short, long
    mask = torch.arange(9600) < torch.tensor([[2400], [9600]])
    with torch.no_grad():
        key = mask.long() if kind != "wavlm" else None
        last = model(x, attention_mask=key).last_hidden_state[:1, :7]
    assert distance(last, alone(model, short.numpy(), normalize=False)[-1:]) > 1e-3


@pytest.mark.parametrize(
    "name",
    ["wav2vec2-base", "hubert-base", "wavlm-base", "data2vec-base", "unispeech-sat-base"],
)
def test_full_size_base(name, noise, alone, distance):
    entry = CATALOG[name]
    family = FAMILIES[entry.family]
    plain = random_model(family, build_config(family, entry.config, name), 0).eval()
    upstream = load_upstream(f"{name}@random:0")
    waves = noise(16000, 2000)
    out = upstream.encode(waves)
    assert (upstream.info.num_layers, upstream.info.dim) == (13, 768)
    assert out.num_frames == (49, 6)
    for b, wave in enumerate(waves):
        want = alone(plain, wave, normalize=entry.do_normalize)
        assert distance(out.hidden[:, b, : len(want[0])], want) <= TOLERANCE


@pytest.mark.parametrize(
    "name", ["wav2vec2-large", "hubert-large", "wavlm-large", "data2vec-large"]
)
def test_large_layer_norm(name, tmp_path, noise, alone, distance):
    entry = CATALOG[name]
    family = FAMILIES[entry.family]
    values = {**entry.config, "num_hidden_layers": 2}
    plain = random_model(family, build_config(family, values, name), 3).eval()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": entry.family, **values}))
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true}')
    upstream = load_upstream(f"{name}@random:3={tmp_path}")
    waves = noise(8000, 1000)
    out = upstream.encode(waves)
    for b, wave in enumerate(waves):
        want = alone(plain, wave)
        assert distance(out.hidden[:, b, : len(want[0])], want) <= TOLERANCE


@pytest.mark.parametrize("normalize", [True, False])
def test_normalisation_is_that_of_the_preprocessor(normalize, noise):
    waves = [*noise(400, 5000, 1601), np.zeros(700, np.float32), np.ones(700, np.float32)]
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalize)
    got = torch.zeros(len(waves), 5000)
    for row, wave in zip(got, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    if normalize:
        normalize_(got, [len(wave) for wave in waves])
    for row, wave in zip(got, waves, strict=True):  # one by one: in a batch it counts padding
        (want,) = extractor(wave, sampling_rate=16000).input_values
        np.testing.assert_allclose(row[: len(wave)], want, rtol=1e-5, atol=1e-5)
        assert not row[len(wave) :].any()


def test_do_normalize_false_is_obeyed(checkpoint, tmp_path, noise, alone, distance):
    folder, model = checkpoint("hubert")
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    (wave,) = noise(4000)
    got = load_upstream(str(tmp_path)).encode([wave]).hidden[:, 0]
    assert distance(got, alone(model, wave, normalize=False)) <= TOLERANCE


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "data2vec"])
def test_same_call_is_bitwise_the_same(kind, checkpoint, noise):
    upstream = load_upstream(str(checkpoint(kind).folder))
    waves = noise(4000, 1500)
    first, second = upstream.encode(waves), upstream.encode(waves)
    for b, end in enumerate(first.num_frames):
        assert torch.equal(first.hidden[:, b, :end], second.hidden[:, b, :end])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["hubert", "wavlm", "data2vec-audio"])
def test_half_precision_is_near(family, precision, tmp_path, noise, distance):
    values = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": [32] * 7,
        "num_conv_pos_embedding_groups": 4,
    }
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, **values}))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    exact = load_upstream(f"x@random:0={tmp_path}")
    half = load_upstream(f"x@random:0={tmp_path}", precision=precision)
    waves = noise(4000, 9000)
    want, got = exact.encode(waves), half.encode(waves)
    assert got.hidden.dtype == getattr(torch, precision)
    for b, end in enumerate(want.num_frames):
        error = distance(got.hidden[:, b, :end].float(), want.hidden[:, b, :end])
        assert 1e-5 < error < (0.05 if precision == "bfloat16" else 0.01)
    assert exact.info.identity != half.info.identity


def test_too_short_and_empty_are_errors(checkpoint, noise):
    upstream = load_upstream(str(checkpoint("hubert").folder))
    assert upstream.info.receptive_field == 400
    assert upstream.info.hop == 320
    assert [upstream.num_frames(n) for n in (0, 399, 400, 719, 720)] == [0, 0, 1, 1, 2]
    with pytest.raises(UpstreamError, match=r"shape \(399,\); expected mono with at least 400"):
        upstream.encode(noise(4000, 399))
    with pytest.raises(UpstreamError, match="no waveform"):
        upstream.encode([])


def test_a_failed_batch_leaves_nothing_behind(checkpoint, noise, monkeypatch):
    """The caller halves a batch that does not fit; what it took must be free by then."""
    upstream = load_upstream(str(checkpoint("hubert").folder))
    waves = noise(2000, 900)
    want = upstream.encode(waves).hidden[:, 1, :2]
    last = upstream._model.encoder.layers[-1]

    def fail(*_, **__):
        raise torch.OutOfMemoryError("too large")

    with monkeypatch.context() as patch:
        patch.setattr(last, "forward", fail)
        with pytest.raises(torch.OutOfMemoryError):
            upstream.encode(waves)
    assert upstream._tap._room.hidden is None
    assert torch.equal(upstream.encode(waves).hidden[:, 1, :2], want)


@pytest.mark.parametrize("cuda", [True, False])
def test_the_global_float_modes_come_back(cuda, checkpoint, noise, monkeypatch):
    """Without CUDA they are left alone: batches run side by side there."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: cuda)
    cudnn, before = torch.backends.cudnn, torch.backends.cudnn.allow_tf32
    upstream = load_upstream(str(checkpoint("hubert").folder))
    seen = []
    upstream._model.encoder.register_forward_pre_hook(lambda *_: seen.append(cudnn.allow_tf32))
    upstream.encode(noise(2000))
    assert seen == [before and not cuda]
    assert cudnn.allow_tf32 is before


@pytest.mark.gpu
@pytest.mark.parametrize("name", CUDA)
def test_on_cuda(name, noise, distance):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    request = name if name == "fbank" else f"{name}@random:0"
    upstream, cpu = load_upstream(request, device="cuda"), load_upstream(request)
    waves = noise(48000, 6000, 31000)
    out = upstream.encode(waves)
    for b, (wave, end) in enumerate(zip(waves, out.num_frames, strict=True)):
        alone = upstream.encode([wave]).hidden[:, 0]
        assert distance(out.hidden[:, b, :end], alone) <= TOLERANCE
        assert distance(alone.cpu(), cpu.encode([wave]).hidden[:, 0]) <= TOLERANCE


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["hubert-base", "wavlm-base", "data2vec-base", "whisper-tiny"])
def test_half_precision_on_cuda(name, precision, noise, distance):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    upstream = load_upstream(f"{name}@random:0", device="cuda", precision=precision)
    cpu = load_upstream(f"{name}@random:0")
    limit = 0.05 if precision == "bfloat16" else 0.01
    for wave in noise(48000, 6000):
        got = upstream.encode([wave]).hidden[:, 0].float().cpu()
        assert distance(got, cpu.encode([wave]).hidden[:, 0]) <= limit


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_config_field_is_in_the_identity_or_known_to_be_harmless(name):
    """A new transformers field that changes features must not be missed by the identity."""
    harmless = {
        "vocab_size", "hidden_dropout", "activation_dropout", "attention_dropout",
        "feat_proj_dropout", "feat_quantizer_dropout", "final_dropout", "layerdrop",
        "initializer_range", "apply_spec_augment", "mask_time_prob", "mask_time_length",
        "mask_time_min_masks", "mask_feature_prob", "mask_feature_length",
        "mask_feature_min_masks", "num_codevectors_per_group", "num_codevector_groups",
        "contrastive_logits_temperature", "num_negatives", "codevector_dim",
        "proj_codevector_dim", "diversity_loss_weight", "ctc_loss_reduction",
        "ctc_zero_infinity", "use_weighted_layer_sum", "classifier_proj_size", "tdnn_dim",
        "tdnn_kernel", "tdnn_dilation", "xvector_output_dim", "pad_token_id", "bos_token_id",
        "eos_token_id", "add_adapter", "adapter_kernel_size", "adapter_stride",
        "num_adapter_layers", "output_hidden_size", "num_ctc_classes", "num_clusters",
        "num_feat_extract_layers", "dropout", "encoder_layerdrop", "init_std", "use_cache",
        "max_target_positions", "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim",
        "decoder_layerdrop", "decoder_start_token_id", "is_encoder_decoder",
        "median_filter_width", "begin_suppress_tokens", "suppress_tokens",
        "tie_word_embeddings", "num_hidden_layers", "transformers_version", "architectures",
        "model_type", "dtype", "torch_dtype", "return_dict", "output_hidden_states",
        "output_attentions", "chunk_size_feed_forward", "id2label", "label2id", "problem_type",
    }  # fmt: skip
    family = FAMILIES[name]
    values = build_config(family, {}, name).to_dict()
    unknown = {key for key in values if not key.startswith("_")} - harmless
    assert unknown <= set(family.architecture)
    assert set(family.architecture) <= set(values)
