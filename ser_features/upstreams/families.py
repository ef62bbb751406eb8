"""The encoder families of transformers that can be run: data only, no torch."""

from dataclasses import dataclass

from ser_features.registry import by_name

_SHARED = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "layer_norm_eps", "feat_extract_activation", "conv_dim", "conv_kernel", "conv_stride",
    "conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
)  # fmt: skip
_WHISPER = (
    "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim",
    "activation_function", "num_mel_bins", "max_source_positions", "scale_embedding",
)  # fmt: skip
_WAV2VEC2 = (*_SHARED, "feat_extract_norm", "do_stable_layer_norm")


@dataclass(frozen=True, slots=True)
class Family:
    """How the checkpoints of one ``model_type`` are built, read and limited.

    ``model_class`` is in ``module`` of transformers. ``prefixes`` are what the encoder's keys may
    start with in a checkpoint. ``max_seconds`` bounds the memory of full attention (None: no
    limit). ``architecture`` lists the fields of the configuration that decide the features; it
    enters the identity.
    """

    model_type: str
    config_class: str
    module: str
    model_class: str
    prefixes: tuple[str, ...]
    max_seconds: float | None
    architecture: tuple[str, ...]
    is_whisper: bool = False


# wav2vec2-like families: the convolutions take 2 GB of float32 for 300 s of audio. WavLM adds a
# bias of frames x frames for every head (0.4 GB at 60 s with 12 heads), so it stops earlier.
_ENTRIES = (
    Family(
        "wav2vec2",
        "Wav2Vec2Config",
        "models.wav2vec2.modeling_wav2vec2",
        "Wav2Vec2Model",
        prefixes=("wav2vec2.", ""),
        max_seconds=300.0,
        architecture=(*_WAV2VEC2, "adapter_attn_dim"),
    ),
    Family(
        "hubert",
        "HubertConfig",
        "models.hubert.modeling_hubert",
        "HubertModel",
        prefixes=("hubert.", ""),
        max_seconds=300.0,
        architecture=(*_WAV2VEC2, "feat_proj_layer_norm", "conv_pos_batch_norm"),
    ),
    Family(
        "wavlm",
        "WavLMConfig",
        "models.wavlm.modeling_wavlm",
        "WavLMModel",
        prefixes=("wavlm.", ""),
        max_seconds=60.0,
        architecture=(*_WAV2VEC2, "num_buckets", "max_bucket_distance"),
    ),
    Family(
        "data2vec-audio",
        "Data2VecAudioConfig",
        "models.data2vec.modeling_data2vec_audio",
        "Data2VecAudioModel",
        prefixes=("data2vec_audio.", ""),
        max_seconds=300.0,
        architecture=(*_SHARED, "conv_pos_kernel_size"),
    ),
    Family(
        "unispeech-sat",
        "UniSpeechSatConfig",
        "models.unispeech_sat.modeling_unispeech_sat",
        "UniSpeechSatModel",
        prefixes=("unispeech_sat.", ""),
        max_seconds=300.0,
        architecture=_WAV2VEC2,
    ),
    Family(
        "whisper",
        "WhisperConfig",
        "models.whisper.modeling_whisper",
        "WhisperEncoder",
        prefixes=("model.encoder.", "encoder.", ""),
        max_seconds=None,
        architecture=_WHISPER,
        is_whisper=True,
    ),
)

FAMILIES = by_name("upstream family", _ENTRIES, lambda family: family.model_type)
