"""Trained ResNets as files: safetensors, what they are in the header; never a pickle."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ser_features import __version__
from ser_features.errors import TrainError
from ser_features.fingerprint import canonical_json, file_sha256
from ser_features.heads.resnet34 import ResNet34, ResNetShape
from ser_features.train.resnet_recipes import ResNetConfig

_FORMAT = "serfeat-resnet34-1"
_KINDS = {
    "head": str, "upstream": str, "features": str, "frame_norm": str, "vad": bool, "shape": dict,
    "classes": list, "trained": dict,
}  # fmt: skip
_FIELD = "serfeat"
REPLACED = ("embedding.", "output.")
"""The linear layers: what ``--init-train new`` replaces. ``all`` replaces the last of them."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a checkpoint says of itself.

    ``features`` is the content key of the feature set that it was trained on; ``vad`` and
    ``frame_norm`` how its frames were prepared; ``trained`` the recipe and where it stopped.
    """

    head: str
    shape: ResNetShape
    features: str
    upstream: str
    vad: bool
    frame_norm: str
    classes: tuple[str, ...]
    trained: Mapping[str, Any]
    serfeat: str = __version__


def check_writable(path: Path) -> None:
    """Make the folder of a checkpoint; TrainError where the file could not be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainError(f"cannot write {path}: {error.strerror or error}") from error
    if path.is_dir():
        raise TrainError(f"cannot write {path}: it is a folder; name a file in it")
    if not os.access(path.parent, os.W_OK):
        raise TrainError(f"cannot write {path}: its folder takes no files")


def save_checkpoint(path: Path, network: ResNet34, header: Header) -> str:
    """Write weights and header, whole or not at all; sha256 of the file."""
    text = canonical_json({"format": _FORMAT, **asdict(header)})
    weights = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    try:
        check_writable(path)
        save_file(weights, partial, {_FIELD: text})
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise TrainError(f"cannot write {path}: {error}") from error
    return file_sha256(path)


def read_header(path: Path) -> Header:
    """The header alone; TrainError where the file is not such a checkpoint."""
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {}).get(_FIELD, "{}"))
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise TrainError(
            f"cannot read the checkpoint {path}: {error}; expected a safetensors file that "
            "'serfeat pretrain' wrote"
        ) from error
    try:
        if found.pop("format") != _FORMAT:
            raise KeyError("format")
        if wrong := [name for name, kind in _KINDS.items() if not isinstance(found[name], kind)]:
            raise KeyError(wrong[0])
        shape, classes = ResNetShape(**found.pop("shape")), tuple(found.pop("classes"))
        return Header(shape=shape, classes=classes, **found)
    except (AttributeError, KeyError, TypeError) as error:
        raise TrainError(
            f"{path} does not say that it is a ResNet-34 of serfeat ({error}); expected a file "
            "that 'serfeat pretrain' wrote"
        ) from error


def check_options(config: ResNetConfig, upstream: str) -> None:
    """TrainError unless ``config.init`` was made for this head, these frames and this pooling.

    With ``init_train`` ``new`` the pooling may be another one: what follows it is new anyway.
    """
    if config.init is None:
        return
    header = read_header(Path(config.init))
    pairs = {
        "head": (header.head, config.head),
        "upstream": (header.upstream, upstream),
        "vad": (header.vad, config.vad),
        "frame_norm": (header.frame_norm, config.frame_norm),
    }
    if config.init_train == "all":
        pairs["pooling"] = (header.shape.pooling, config.pooling)
    wrong = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if wrong:
        here, there = (
            " ".join(_option(name, pair[side]) for name, pair in wrong.items()) for side in (0, 1)
        )
        raise _misfit(config.init, wrong, f"say {here}, or pretrain another with {there}")


def check_init(config: ResNetConfig, shape: ResNetShape, features: str, upstream: str) -> None:
    """TrainError unless ``config.init`` fits the options, the network and the features."""
    check_options(config, upstream)
    if config.init is None:
        return
    header = read_header(Path(config.init))
    free = ("num_classes", "pooling")
    pairs: dict[str, tuple[object, object]] = {
        field.name: (getattr(header.shape, field.name), getattr(shape, field.name))
        for field in fields(shape)
        if field.name not in free
    }
    pairs["features"] = (header.features[:12], features[:12])
    if wrong := {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}:
        raise _misfit(config.init, wrong, "pretrain another on these features")


def _misfit(path: str, wrong: Mapping[str, tuple[object, object]], advice: str) -> TrainError:
    listed = "; ".join(f"{name} {has!r}, not {asked!r}" for name, (has, asked) in wrong.items())
    return TrainError(f"the checkpoint {path} does not fit this run: it has {listed}; {advice}")


def _option(name: str, value: object) -> str:
    """The option of the command line that asks for it."""
    if name == "vad":
        return "--vad" if value else "--no-vad"
    return f"--{name.replace('_', '-')} {value}"


def load_init(network: ResNet34, path: Path, init_train: str) -> list[str]:
    """Load what ``init_train`` keeps of a checkpoint; the names of the parameters that are new."""
    state = _read_weights(path)
    own = network.state_dict()
    replaced = REPLACED if init_train == "new" else REPLACED[1:]
    same_pooling = {k for k in state if k.startswith("pooling.")} <= own.keys()
    kept = {
        name: value
        for name, value in state.items()
        if not name.startswith(replaced) and (same_pooling or not name.startswith("pooling."))
    }
    wrong = [n for n, value in kept.items() if n not in own or own[n].shape != value.shape]
    lost = [n for n in own if n not in kept and not n.startswith((*replaced, "pooling."))]
    if wrong or lost:
        raise TrainError(f"{path} has other weights than its header says: {(wrong + lost)[0]!r}")
    network.load_state_dict(kept, strict=False)
    return [name for name, _ in network.named_parameters() if name not in kept]


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TrainError(f"cannot read the checkpoint {path}: {error}") from error
    floats = [v for v in state.values() if v.is_floating_point()]
    if not all(bool(torch.isfinite(value).all()) for value in floats):
        raise TrainError(f"{path} holds weights that are not finite")
    return state
