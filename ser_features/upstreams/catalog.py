"""Short names of the usual checkpoints: data only, no torch.

Any other hub id or folder of the same families works without an entry. ``config`` is the published
architecture, so that ``NAME@random:SEED`` needs no download; a trained checkpoint always follows
its own ``config.json`` and ``preprocessor_config.json``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ser_features.records import Json
from ser_features.registry import by_name

SPECTRAL = "spectral"
NATIVE = ("wav2vec", "cnn14")
"""Families of this project's own modules: a checkpoint is one file."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One catalogue entry.

    ``config`` holds what differs from the defaults of the family's transformers configuration;
    ``do_normalize`` is the waveform normalisation of the untrained control only. ``file`` names the
    checkpoint in its repository where that is not in the transformers form.
    """

    name: str
    family: str
    hub_id: str | None
    summary: str
    config: Mapping[str, Json] = field(default_factory=dict)
    do_normalize: bool = True
    file: str | None = None


_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
_LARGE_LAYER_NORM = {**_LARGE, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
_LARGE_BIASED = {**_LARGE_LAYER_NORM, "conv_bias": True}
_1B = {
    **_LARGE_BIASED,
    "hidden_size": 1280,
    "num_hidden_layers": 48,
    "intermediate_size": 5120,
}


# fairseq, examples/wav2vec/README.md and model defaults (facebookresearch/fairseq).
_WAV2VEC = {
    "conv_feature_layers": "[(512, 10, 5), (512, 8, 4)] + [(512, 4, 2)] * 3 + [(512, 1, 1)] * 2",
    "conv_aggregator_layers": str([(512, kernel, 1) for kernel in range(2, 14)]),
}
_VQ_WAV2VEC = {
    **_WAV2VEC,
    "conv_feature_layers": "[(512, 10, 5), (512, 8, 4)] + [(512, 4, 2)] * 3 + [(512, 1, 1)] * 3",
    "activation": "gelu",
    "log_compression": False,
    "vq_type": "gumbel",
    "vq_vars": 320,
    "vq_groups": 2,
    "vq_depth": 2,
    "combine_groups": True,
}


def _whisper(size: str, width: int, layers: int, heads: int, mels: int = 80) -> Checkpoint:
    config = {
        "d_model": width,
        "encoder_layers": layers,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * width,
        "num_mel_bins": mels,
        # The decoder is never built; the smallest one keeps its configuration valid.
        "decoder_layers": 1,
        "decoder_attention_heads": heads,
        "decoder_ffn_dim": 4 * width,
    }
    summary = f"Whisper {size} encoder"
    return Checkpoint(f"whisper-{size}", "whisper", f"openai/whisper-{size}", summary, config)


_ENTRIES = (
    Checkpoint("fbank", SPECTRAL, None, "80 log mel filters with deltas (SUPERB's), CMVN"),
    Checkpoint("logmel", SPECTRAL, None, "128 log mel filters"),
    Checkpoint("mfcc", SPECTRAL, None, "23 cepstral coefficients"),
    Checkpoint(
        "wav2vec", "wav2vec", "s3prl/converted_ckpts", "wav2vec large (the first)",
        _WAV2VEC, False, "wav2vec_large.pt",
    ),
    Checkpoint(
        "vq-wav2vec", "wav2vec", "s3prl/converted_ckpts", "vq-wav2vec, Gumbel",
        _VQ_WAV2VEC, False, "vq-wav2vec.pt",
    ),
    Checkpoint("cnn14", "cnn14", None, "PANNs CNN14 at 32 kHz, file Cnn14_mAP=0.431.pth"),
    Checkpoint("cnn14-16k", "cnn14", None, "PANNs CNN14 at 16 kHz, file Cnn14_16k_mAP=0.438.pth"),
    Checkpoint("wav2vec2-base", "wav2vec2", "facebook/wav2vec2-base", "wav2vec 2.0 base"),
    Checkpoint(
        "wav2vec2-large", "wav2vec2", "facebook/wav2vec2-large-lv60",
        "wav2vec 2.0 large, Libri-Light 60k hours", _LARGE_BIASED,
    ),
    Checkpoint(
        "xlsr-53", "wav2vec2", "facebook/wav2vec2-large-xlsr-53", "XLSR-53", _LARGE_BIASED
    ),
    Checkpoint(
        "xls-r-300m", "wav2vec2", "facebook/wav2vec2-xls-r-300m", "XLS-R 300M", _LARGE_BIASED
    ),
    Checkpoint("xls-r-1b", "wav2vec2", "facebook/wav2vec2-xls-r-1b", "XLS-R 1B", _1B),
    Checkpoint(
        "xls-r-2b", "wav2vec2", "facebook/wav2vec2-xls-r-2b", "XLS-R 2B",
        {**_1B, "hidden_size": 1920, "intermediate_size": 7680},
    ),
    Checkpoint("mms-300m", "wav2vec2", "facebook/mms-300m", "MMS 300M", _LARGE_BIASED),
    Checkpoint("mms-1b", "wav2vec2", "facebook/mms-1b", "MMS 1B", _1B),
    Checkpoint("hubert-base", "hubert", "facebook/hubert-base-ls960", "HuBERT base"),
    Checkpoint(
        "hubert-large", "hubert", "facebook/hubert-large-ll60k", "HuBERT large", _LARGE_BIASED
    ),
    Checkpoint("wavlm-base", "wavlm", "microsoft/wavlm-base", "WavLM base", {}, False),
    Checkpoint(
        "wavlm-base-plus", "wavlm", "microsoft/wavlm-base-plus", "WavLM base-plus", {}, False
    ),
    Checkpoint("wavlm-large", "wavlm", "microsoft/wavlm-large", "WavLM large", _LARGE_LAYER_NORM),
    Checkpoint(
        "data2vec-base", "data2vec-audio", "facebook/data2vec-audio-base", "data2vec audio base"
    ),
    Checkpoint(
        "data2vec-large", "data2vec-audio", "facebook/data2vec-audio-large",
        "data2vec audio large", _LARGE,
    ),
    Checkpoint(
        "unispeech-sat-base", "unispeech-sat", "microsoft/unispeech-sat-base", "UniSpeech-SAT base"
    ),
    Checkpoint(
        "unispeech-sat-base-plus", "unispeech-sat", "microsoft/unispeech-sat-base-plus",
        "UniSpeech-SAT base-plus",
    ),
    Checkpoint(
        "unispeech-sat-large", "unispeech-sat", "microsoft/unispeech-sat-large",
        "UniSpeech-SAT large", _LARGE_LAYER_NORM,
    ),
    _whisper("tiny", 384, 4, 6),
    _whisper("tiny.en", 384, 4, 6),
    _whisper("base", 512, 6, 8),
    _whisper("base.en", 512, 6, 8),
    _whisper("small", 768, 12, 12),
    _whisper("small.en", 768, 12, 12),
    _whisper("medium", 1024, 24, 16),
    _whisper("medium.en", 1024, 24, 16),
    _whisper("large-v2", 1280, 32, 20),
    _whisper("large-v3", 1280, 32, 20, mels=128),
)  # fmt: skip

CATALOG = by_name("upstream", _ENTRIES, lambda entry: entry.name)
