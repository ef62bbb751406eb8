"""Small checkpoints of every family, as folders, with the plain transformers model beside."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from ser_features.upstreams import cnn14, spectral
from ser_features.upstreams.families import FAMILIES
from ser_features.upstreams.valid import ValidGroups
from ser_features.upstreams.weights import build_config, random_model

TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
DATA2VEC = {**TINY, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 7}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2": ("wav2vec2", TINY),
    "wav2vec2-layer-norm": ("wav2vec2", {**TINY, **LAYER}),
    "mms-adapters": ("wav2vec2", {**TINY, **LAYER, "adapter_attn_dim": 8}),
    "hubert": ("hubert", TINY),
    "hubert-layer-norm": ("hubert", {**TINY, **LAYER}),
    "hubert-batch-norm": (
        "hubert", {**TINY, "conv_pos_batch_norm": True, "feat_proj_layer_norm": False}
    ),
    "wavlm": ("wavlm", {**TINY, "num_buckets": 32, "max_bucket_distance": 80}),
    "wavlm-layer-norm": ("wavlm", {**TINY, **LAYER}),
    "data2vec": ("data2vec-audio", DATA2VEC),
    "unispeech-sat": ("unispeech-sat", TINY),
    "unispeech-sat-layer-norm": ("unispeech-sat", {**TINY, **LAYER}),
}  # fmt: skip
TINY_WHISPER = {
    "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48,
    "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 48, "num_mel_bins": 80,
}  # fmt: skip


class Checkpoint(NamedTuple):
    folder: Path
    model: Any


def write_configs(folder: Path, family: str, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    body = json.dumps({"model_type": family, **config})
    (folder / "config.json").write_text(body)
    facts = {} if family == "whisper" else {"do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))


def perturbed(model: Any) -> Any:
    """Make the parameters that start as 0 or 1 matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    """``checkpoint(kind)``: a tiny checkpoint folder and its plain model, made once."""
    made: dict[str, Checkpoint] = {}

    def make(kind: str) -> Checkpoint:
        if kind not in made:
            family, values = KINDS.get(kind, ("whisper", TINY_WHISPER))
            folder = tmp_path_factory.mktemp(kind)
            config = build_config(FAMILIES[family], values, kind)
            model = perturbed(random_model(FAMILIES[family], config, 0))
            model.save_pretrained(folder)
            write_configs(folder, family, values)
            made[kind] = Checkpoint(folder, model)
        return made[kind]

    return make


@pytest.fixture(scope="session")
def noise() -> Callable[..., list[np.ndarray]]:
    """``noise(800, 6400)``: one loud-and-quiet waveform for each length."""

    def make(*lengths: int) -> list[np.ndarray]:
        rng = np.random.default_rng(lengths)
        return [
            (0.1 * rng.standard_normal(n) * np.sin(np.arange(n) / 900) + 0.01).astype(np.float32)
            for n in lengths
        ]

    return make


@pytest.fixture(scope="session")
def gpu_layout() -> Callable[[], AbstractContextManager[None]]:
    """``with gpu_layout():`` spectral upstreams and own modules run a batch as on a GPU."""

    @contextmanager
    def on_a_cpu() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for module in (spectral, cnn14):
                patch.setattr(module, "in_parts", lambda compute, x, samples: compute(x, samples))
            patch.setattr(ValidGroups, "each", ValidGroups.padded)
            yield

    return on_a_cpu


@pytest.fixture(scope="session")
def alone() -> Callable[..., torch.Tensor]:
    """``alone(model, wave)``: every layer of plain transformers, one utterance, no mask."""

    def run(model: Any, wave: np.ndarray, *, normalize: bool = True) -> torch.Tensor:
        x = torch.from_numpy(wave)
        if normalize:
            x = (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-7)
        with torch.no_grad():
            out = model(x[None].to(model.dtype), output_hidden_states=True)
        return torch.stack([*out.hidden_states[:-1], out.last_hidden_state])[:, 0]

    return run


@pytest.fixture(scope="session")
def distance() -> Callable[[torch.Tensor, torch.Tensor], float]:
    """The worst layer's relative RMS distance between two [L, T, D]."""

    def worst(got: torch.Tensor, want: torch.Tensor) -> float:
        assert got.shape == want.shape
        error = (got - want).double().square().mean((1, 2)).sqrt()
        return float((error / want.double().square().mean((1, 2)).sqrt()).max())

    return worst


@pytest.fixture
def folder(checkpoint: Callable[[str], Checkpoint], tmp_path: Path) -> Path:
    """A tiny HuBERT that a test may damage."""
    for path in checkpoint("hubert").folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path
