"""Upstreams of this project's own modules: wav2vec, vq-wav2vec and CNN14, from one file each."""

import argparse
import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ser_features.errors import UpstreamError
from ser_features.fingerprint import file_sha256
from ser_features.records import Json, UpstreamInfo
from ser_features.upstreams.catalog import Checkpoint
from ser_features.upstreams.cnn14 import (
    BLOCKS,
    DIM,
    FRONTS,
    POOLED,
    Cnn14Model,
    Cnn14Upstream,
)
from ser_features.upstreams.protocol import Upstream
from ser_features.upstreams.request import UpstreamRequest
from ser_features.upstreams.source import ask_hub
from ser_features.upstreams.wav2vec import (
    MOST_CONVS,
    Convs,
    Wav2VecModel,
    Wav2VecShape,
    Wav2VecUpstream,
    check_shape,
)
from ser_features.upstreams.weights import check_weights, read_tensors, weights_sha256

ENCODING = 1  # part of every identity: raise it when a change here changes features
MAX_SECONDS = 300.0  # bounds the memory of the first convolutions, as for the other families
_SUFFIXES = (".pt", ".pth", ".safetensors")
# All that the published files hold beside tensors: options and arrays. Plain data, nothing runs.
_PLAIN = [
    argparse.Namespace,
    np.ndarray,
    np.dtype,
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"},
]


@dataclass(frozen=True, slots=True)
class Content:
    """A checkpoint file's content, or what stands for it where the weights are random."""

    options: Mapping[str, Json]
    state: Mapping[str, Tensor] | None
    origin: Mapping[str, Json]
    hashes: Mapping[str, str]

    @property
    def where(self) -> str:
        """Its file, for messages; the catalogue's name where there is none."""
        return str(self.origin.get("file") or self.origin["catalogue"])


@dataclass(frozen=True, slots=True)
class Facts:
    """The numbers of an UpstreamInfo; ``hop`` and ``field`` are samples."""

    num_layers: int
    dim: int
    sample_rate: int
    hop: int
    field: int


def load_native(
    request: UpstreamRequest, entry: Checkpoint, device: torch.device, dtype: torch.dtype
) -> Upstream:
    """Load ``wav2vec``, ``vq-wav2vec`` or ``cnn14``; see ``load_upstream``."""
    if request.path is not None and request.seed is not None:
        raise UpstreamError(f"{entry.name}@random needs no file; write {entry.name}@random:SEED")
    source = _source(request, entry)
    if entry.family == "cnn14":
        return _cnn14(request, entry, source, device, dtype)
    return _wav2vec(request, entry, source, device, dtype)


def _source(request: UpstreamRequest, entry: Checkpoint) -> Content:
    if request.seed is not None:
        return Content({}, None, {"catalogue": entry.name, "seed": request.seed}, {})
    path = _path(request, entry)
    content = read_content(path)
    state = next((content[k] for k in ("model_weight", "model") if k in content), content)
    if not isinstance(state, Mapping):
        raise UpstreamError(f"{path} has no weights under 'model' or 'model_weight'")
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    return Content(
        _options(content, path),
        tensors,
        {"file": str(path.resolve())},
        {path.name: file_sha256(path)},
    )


def _path(request: UpstreamRequest, entry: Checkpoint) -> Path:
    """The checkpoint file: the one named, or the only one of the folder named."""
    path = request.path
    if path is None and entry.hub_id is not None:
        return _from_hub(entry)
    if path is None:
        raise UpstreamError(
            f"{entry.name} is not on the hub: pass its checkpoint, {entry.name}=FILE.pth "
            f"({entry.summary})"
        )
    if path.is_file():
        return path
    if not path.exists():
        raise UpstreamError(f"no file {path}; expected the checkpoint of {entry.name}")
    found = sorted(one for one in path.glob("*") if one.suffix in _SUFFIXES)
    if len(found) != 1:
        raise UpstreamError(
            f"{path} holds {len(found)} checkpoint files ({', '.join(_SUFFIXES)}); expected the "
            "path of one file"
        )
    return found[0]


def _from_hub(entry: Checkpoint) -> Path:
    from huggingface_hub import hf_hub_download

    name, there = str(entry.hub_id), ask_hub(str(entry.hub_id)) is not None
    how: dict[str, Any] = {"etag_timeout": 10.0} if there else {"local_files_only": True}
    try:
        return Path(hf_hub_download(name, str(entry.file), **how))
    except Exception as error:  # the client's own errors changed class between its versions
        reason = str(error).strip().partition("\n")[0]
        if not there:
            reason = "the hub cannot be reached, and its cache does not hold the file"
        raise UpstreamError(
            f"cannot download {entry.file} of {entry.hub_id}: {reason}; "
            f"pass the file: {entry.name}=FILE.pt"
        ) from error


def read_content(path: Path) -> dict[str, Any]:
    """A checkpoint as plain data: safetensors, or a pickle that torch's restricted reader takes.

    Raises UpstreamError where it is damaged or holds anything that would run.
    """
    if path.suffix == ".safetensors":
        return dict(read_tensors(path))
    with torch.serialization.safe_globals(_PLAIN):
        return read_tensors(path, everything=True)


def _options(content: Mapping[str, Any], path: Path) -> dict[str, Json]:
    """fairseq's options: ``args`` of its own files, ``model_cfg`` of s3prl's converted ones."""
    found = content.get("model_cfg", content.get("args", {}))
    options = vars(found) if isinstance(found, argparse.Namespace) else found
    if not isinstance(options, Mapping):
        raise UpstreamError(
            f"{path}: its options are {type(found).__name__}; expected names and their values"
        )
    return dict(options)


def wav2vec_shape(
    options: Mapping[str, Json], defaults: Mapping[str, Json], where: str
) -> Wav2VecShape:
    """The shape that fairseq's options say; ``defaults`` where they say nothing."""
    values = {**defaults, **{k: v for k, v in options.items() if v is not None}}
    known = {field.name for field in fields(Wav2VecShape)}
    picked = {name: value for name, value in values.items() if name in known}
    try:
        for name, plain in (("aggregator", "cnn"), ("skip_connections_feat", False)):
            if (found := str(options.get(name, plain))) != str(plain):
                text = f"{name} is {found[:40]!r}; only {plain!r} is supported"
                raise UpstreamError(f"{where}: {text}")
        for name in ("conv_feature_layers", "conv_aggregator_layers"):
            picked[name] = parse_convs(picked[name])
        return check_shape(Wav2VecShape(**picked), where)
    except (KeyError, TypeError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise UpstreamError(f"{where} is not a wav2vec configuration: {error}") from error


def parse_convs(text: Any) -> Convs:
    """fairseq's text of convolutions, read without running it.

    >>> parse_convs("[(512, 10, 5)] + [(512, 3, 1)] * 2")
    ((512, 10, 5), (512, 3, 1), (512, 3, 1))
    """
    found = _value(ast.parse(text.strip(), mode="eval").body) if isinstance(text, str) else text
    return tuple((a, b, c) for a, b, c in found)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _value(node.left) + _value(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _value(node.left), _value(node.right)
        if not isinstance(left, list) or type(right) is not int or right < 1:
            raise ValueError("expected a list times a count")
        if len(left) * right > MOST_CONVS:
            raise ValueError(f"more than {MOST_CONVS} convolutions")
        return left * right
    return ast.literal_eval(node)


def _wav2vec(
    request: UpstreamRequest,
    entry: Checkpoint,
    source: Content,
    device: torch.device,
    dtype: torch.dtype,
) -> Upstream:
    where = source.where
    shape = wav2vec_shape(source.options, entry.config, where)
    model, weights = _fill(lambda: Wav2VecModel(shape), source, where)
    field, hop = shape.field()
    facts = Facts(shape.num_layers, shape.dim, 16_000, hop, field)
    info = _info(request, entry, model, source, facts, weights, shape.to_json(), dtype)
    return Wav2VecUpstream(model.to(device, dtype), info)


def _cnn14(
    request: UpstreamRequest,
    entry: Checkpoint,
    source: Content,
    device: torch.device,
    dtype: torch.dtype,
) -> Upstream:
    front = FRONTS[entry.name]
    model, weights = _fill(lambda: Cnn14Model(front), source, source.where)
    hop = front.hop * POOLED
    facts = Facts(BLOCKS, DIM, front.sample_rate, hop, hop - front.hop)
    shape = {"window": front.window, "hop": front.hop, "mel": [front.low_hz, front.high_hz]}
    info = _info(request, entry, model, source, facts, weights, shape, dtype)
    return Cnn14Upstream(model.to(device), info, dtype)


def _fill(build: Callable[[], nn.Module], source: Content, where: str) -> tuple[Any, Json]:
    """The frozen model, and what of its weights enters the identity."""
    found = None if source.state is None else _fitting(build, source.state, where)
    seed = int(source.origin.get("seed", 0))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build().eval().requires_grad_(False)
    if found is None:
        return model, {"random_seed": seed, "sha256": weights_sha256(model)}
    model.load_state_dict({k: w.float() if w.is_floating_point() else w for k, w in found.items()})
    return model, {"files": sorted(source.hashes.values())}


def _fitting(
    build: Callable[[], nn.Module], state: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """The weights of a checkpoint, before memory is taken for the model that its options ask for.

    UpstreamError where there is no such model, or where they are not its weights.
    """
    try:
        with torch.device("meta"):
            expected = build().state_dict()
    except Exception as error:  # torch raises many kinds, by version
        raise UpstreamError(f"{where} cannot be built from its options: {error}") from error
    found = {key: state[key] for key in expected if key in state}
    check_weights(expected, found, where)
    return found


def _info(
    request: UpstreamRequest,
    entry: Checkpoint,
    model: nn.Module,
    source: Content,
    facts: Facts,
    weights: Json,
    shape: Mapping[str, Json],
    dtype: torch.dtype,
) -> UpstreamInfo:
    identity = {
        "family": entry.family,
        "architecture": dict(shape),
        "weights": weights,
        "preprocessing": {"sample_rate": facts.sample_rate, "do_normalize": False},
        "precision": str(dtype).removeprefix("torch."),
        "encoding": ENCODING,
    }
    return UpstreamInfo(
        name=request.name,
        family=entry.family,
        num_layers=facts.num_layers,
        dim=facts.dim,
        sample_rate=facts.sample_rate,
        hop=facts.hop,
        receptive_field=facts.field,
        num_parameters=sum(weight.numel() for weight in model.parameters()),
        max_seconds=MAX_SECONDS,
        identity=identity,
        provenance={
            **source.origin,
            "files": dict(source.hashes),
            "versions": {"torch": torch.__version__},
        },
    )
