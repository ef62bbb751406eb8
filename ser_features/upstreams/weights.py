"""Encoders with trained or untrained weights; a checkpoint that does not fit is an error."""

import hashlib
import importlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from ser_features.errors import UpstreamError
from ser_features.records import Json
from ser_features.upstreams.families import FAMILIES, Family

# SpecAugment and the adapter after the encoder exist for training and other tasks only.
_UNUSED = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "add_adapter": False}
_INITIAL = ("initializer_range", "init_std")  # of untrained weights
# transformers downloads and runs a kernel where a configuration names one ("ORG/NAME").
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
_STOCK = (None, "eager", "sdpa")
# Far over any speech encoder: what a configuration may make us build.
MOST_LAYERS, MOST_CONVS, MOST_SIZE, MOST_PARAMETERS = 1000, 100, 2**20, 10**10
_OLD_WEIGHT_NORM = {
    ".weight_g": ".parametrizations.weight.original0",
    ".weight_v": ".parametrizations.weight.original1",
}


def family_of(config: Mapping[str, Json], where: str) -> Family:
    """The family of a ``config.json``; UpstreamError that lists them all where it has none."""
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    known, found = ", ".join(sorted(FAMILIES)), repr(model_type)[:80]
    raise UpstreamError(f"{where} is of the model type {found}; supported: {known}")


def build_config(family: Family, config: Mapping[str, Json], where: str) -> Any:
    """The transformers configuration object; UpstreamError where its values are not valid."""
    for key in _IMPLEMENTATIONS:
        if config.get(key) not in _STOCK:
            raise UpstreamError(
                f"{where} asks for code of its own ({key!r}), which is never run; remove it"
            )
    # Nothing else reaches transformers: it would be a switch that nobody has looked at.
    wanted = (*family.architecture, *_INITIAL)
    values = {key: config[key] for key in wanted if key in config}
    _check_sizes(values, where)
    values.update({key: off for key, off in _UNUSED.items() if not family.is_whisper})
    try:
        built = getattr(transformers, family.config_class)(**values)
    except Exception as error:  # transformers raises its own kinds, by version
        raise UpstreamError(f"{where} is not a valid {family.model_type}: {error}") from error
    for name in wanted:
        _check_field(name, getattr(built, name, None), where)
    return built


def _check_sizes(values: Mapping[str, Json], where: str) -> None:
    """UpstreamError where building the encoder would not end."""
    for key, value in values.items():
        most = MOST_LAYERS if key.endswith("layers") else 2**31
        if isinstance(value, int) and abs(value) > most:
            raise UpstreamError(f"{where}: {key} is {str(value)[:40]}; expected at most {most}")
        if isinstance(value, list) and key.startswith("conv_") and len(value) > MOST_CONVS:
            raise UpstreamError(f"{where}: {key} has {len(value)} items, at most {MOST_CONVS}")


def _check_field(name: str, value: Json, where: str) -> None:
    """UpstreamError for a number that builds an encoder which cannot run."""
    if isinstance(value, list | tuple):
        fine = all(type(one) is int and 0 < one <= MOST_SIZE for one in value)
    elif isinstance(value, float):
        fine = 0 < value < 1
    else:
        fine = type(value) is not int or 0 < value <= MOST_SIZE
    if not fine:
        raise UpstreamError(
            f"{where}: {name} is {str(value)[:40]}; expected whole numbers from 1 to {MOST_SIZE}, "
            "or a share below 1"
        )


def random_model(family: Family, config: Any, seed: int, where: str = "config.json") -> Any:
    """An untrained encoder: the same weights for the same seed; the global state stays as is.

    UpstreamError naming ``where`` for a configuration that cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        size = sum(weight.numel() for weight in _planned(family, config, where).parameters())
        most = min(MOST_PARAMETERS, _memory() // 4)
        if size > most:
            raise UpstreamError(
                f"{where} asks for {size} parameters; expected at most {most}, which is what "
                "the memory of this machine holds, or more than any encoder has"
            )
        torch.default_generator.manual_seed(seed)
        return _build(family, config, where)


def trained_model(family: Family, config: Any, files: Sequence[Path]) -> Any:
    """An encoder with every weight from the files (float32); keys of other parts are ignored.

    Raises UpstreamError naming the keys that are missing or of another shape, and the file that is
    not tensors only.
    """
    state = _read_state(files)
    folder = files[0].parent
    model = _planned(family, config, str(folder / "config.json"))
    expected: dict[str, Tensor] = model.state_dict()
    prefix = max(family.prefixes, key=lambda p: sum(p + key in state for key in expected))
    found = {key: state[prefix + key] for key in expected if prefix + key in state}
    check_weights(expected, found, str(folder))
    floats = {key: w.float() if w.is_floating_point() else w for key, w in found.items()}
    model.load_state_dict(floats, assign=True)
    return model


def weights_sha256(model: Any) -> str:
    """Sha256 hex over names, shapes and bytes of all weights."""
    digest = hashlib.sha256()
    for key, weight in sorted(model.state_dict().items()):
        digest.update(f"{key}{tuple(weight.shape)}{weight.dtype}".encode())
        digest.update(weight.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _planned(family: Family, config: Any, where: str) -> Any:
    """The encoder with its shapes and no memory for them."""
    with torch.device("meta"):
        return _build(family, config, where)


def _memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _build(family: Family, config: Any, where: str) -> Any:
    module = importlib.import_module(f"transformers.{family.module}")
    try:
        return getattr(module, family.model_class)(config)
    except Exception as error:
        raise UpstreamError(f"{where} cannot be a {family.model_type}: {error}") from error


def _read_state(files: Sequence[Path]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for path in files:
        for key, weight in read_tensors(path).items():
            for old, new in _OLD_WEIGHT_NORM.items():
                key = key.removesuffix(old) + new if key.endswith(old) else key  # noqa: PLW2901
            state[key] = weight
    return state


def read_tensors(path: Path, *, everything: bool = False) -> dict[str, Any]:
    """Tensors only: safetensors, or a pickle that torch's restricted unpickler accepts.

    ``everything`` keeps what else that unpickler let in. Raises UpstreamError naming the file.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what makes it fail
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in many ways
        reason = str(error).strip().partition("\n")[0]
        if "weights_only" in reason:  # torch's own advice is to run what is in it
            reason = "torch's restricted reader refuses it"
        raise UpstreamError(
            f"refused to load {path}: it is damaged or holds more than tensors ({reason}); "
            "get the checkpoint again, as safetensors if there is a choice"
        ) from error
    if not isinstance(state, dict):
        raise UpstreamError(f"{path} holds {type(state).__name__}; expected names and tensors")
    return {k: v for k, v in state.items() if everything or isinstance(v, Tensor)}


def check_weights(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str) -> None:
    """UpstreamError where weights are missing or of another shape than the model's."""
    missing = [key for key in expected if key not in found]
    if missing:
        raise UpstreamError(
            f"{where} lacks {len(missing)} of {len(expected)} encoder weights: "
            f"{_some(missing)}; expected a whole checkpoint that fits its config.json"
        )
    wrong = [
        f"{key} {tuple(found[key].shape)} for {tuple(weight.shape)}"
        for key, weight in expected.items()
        if found[key].shape != weight.shape
    ]
    if wrong:
        raise UpstreamError(f"{where} has weights that do not fit config.json: {_some(wrong)}")
    odd = [key for key, weight in expected.items() if not _plain(found[key], weight)]
    if odd:
        raise UpstreamError(
            f"{where} holds {found[odd[0]].dtype} for {_some(odd)}; expected plain tensors of "
            f"{expected[odd[0]].dtype}, each with all of its values"
        )


def _plain(found: Tensor, expected: Tensor) -> bool:
    """Whether it can stand for a weight: a pickle may hold sparse, absent or repeated values."""
    return (
        found.layout == torch.strided
        and found.device.type == "cpu"
        and not found.is_quantized
        and found.is_floating_point() == expected.is_floating_point()
        and found.is_complex() == expected.is_complex()
        and found.untyped_storage().nbytes() >= found.numel() * found.element_size()
    )


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
