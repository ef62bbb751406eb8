"""From a request to a frozen encoder that is ready to run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn.utils import parametrize

from ser_features.errors import UpstreamError
from ser_features.files import uncollected
from ser_features.fingerprint import file_sha256
from ser_features.records import Json, UpstreamInfo
from ser_features.registry import unknown
from ser_features.upstreams import onednn
from ser_features.upstreams.catalog import CATALOG, NATIVE, Checkpoint
from ser_features.upstreams.catalog import SPECTRAL as SPECTRAL_FAMILY
from ser_features.upstreams.convs import conv_field
from ser_features.upstreams.families import Family
from ser_features.upstreams.native import load_native
from ser_features.upstreams.protocol import Upstream
from ser_features.upstreams.request import UpstreamRequest, parse_request
from ser_features.upstreams.source import (
    PREPROCESSOR,
    CheckpointFiles,
    from_folder,
    from_hub,
)
from ser_features.upstreams.spectral import SPECTRAL, SpectralUpstream
from ser_features.upstreams.waveform import WaveformUpstream
from ser_features.upstreams.weights import (
    build_config,
    family_of,
    random_model,
    trained_model,
    weights_sha256,
)
from ser_features.upstreams.whisper import (
    HOP,
    SAMPLE_RATE,
    WhisperUpstream,
    check_preprocessor,
    window_samples,
)

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Part of every identity: raise it when a change here changes features by more than rounding.
# 2: weight norm and the first GroupNorm are computed in float32 before they are rounded.
ENCODING = {"float32": 1, "bfloat16": 2, "float16": 2}


@uncollected()  # the code of transformers is a third slower to load where cycles are looked for
def load_upstream(
    request: str | UpstreamRequest, *, device: str = "cpu", precision: str = "float32"
) -> Upstream:
    """Load an upstream, frozen, in evaluation mode, on a device.

    ``precision`` is that of weights and activations; spectral upstreams are always float32.
    Raises UpstreamError in one line where the request, the checkpoint, the device or the network
    does not allow it.
    """
    if precision not in PRECISIONS:
        raise UpstreamError(unknown("precision", precision, PRECISIONS))
    place = _device(device)
    parsed = parse_request(request) if isinstance(request, str) else request
    known = parsed.target in CATALOG  # Table.get would raise
    entry = None if not known else CATALOG[parsed.target]
    if entry is not None and entry.family == SPECTRAL_FAMILY:
        return _spectral(parsed, place)
    if entry is not None and entry.family in NATIVE:
        return load_native(parsed, entry, place, PRECISIONS[precision])
    plan = _plan(parsed, _find(parsed, entry), entry)
    return _start(plan, place, precision)


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that decides the features, before any weight is read."""

    name: str
    family: Family
    config: Any
    files: CheckpointFiles
    seed: int | None
    sample_rate: int
    do_normalize: bool


def _find(request: UpstreamRequest, entry: Checkpoint | None) -> CheckpointFiles:
    """The checkpoint's files; for an untrained catalogue entry its published configuration."""
    weights = request.seed is None
    if request.path is not None:
        return from_folder(request.path, weights=weights)
    if entry is not None and not weights:
        config = {"model_type": entry.family, **entry.config}
        preprocessor = {"do_normalize": entry.do_normalize, "sampling_rate": SAMPLE_RATE}
        facts = {} if entry.family == "whisper" else preprocessor
        return CheckpointFiles(Path(entry.name), config, facts, (), {"catalogue": entry.name})
    if entry is not None and entry.hub_id is not None:
        return from_hub(entry.hub_id, weights=weights)
    if Path(request.target).is_dir():
        return from_folder(Path(request.target), weights=weights)
    if "/" in request.target:
        return from_hub(request.target, weights=weights)
    hint = "; or a hub id ORG/NAME, or a folder: NAME=FOLDER"
    raise UpstreamError(unknown("upstream", request.target, CATALOG) + hint)


def _plan(request: UpstreamRequest, files: CheckpointFiles, entry: Checkpoint | None) -> _Plan:
    where = files.where
    family = family_of(files.config, where)
    if entry is not None and entry.family != family.model_type:
        raise UpstreamError(f"{entry.name} is {entry.family}, but {where} is {family.model_type}")
    config = build_config(family, files.config, where)
    facts = files.preprocessor
    if family.is_whisper:
        check_preprocessor(facts or {}, str(files.folder / PREPROCESSOR))
        rate, normalize = SAMPLE_RATE, False
    elif facts is None:
        raise UpstreamError(
            f"no {PREPROCESSOR} in {files.folder}, so whether the waveform is to be normalised is "
            "not known; copy that file from where the checkpoint came from"
        )
    else:  # the defaults are those of Wav2Vec2FeatureExtractor
        rate = facts.get("sampling_rate", SAMPLE_RATE)
        if type(rate) is not int or not 1000 <= rate <= 1_000_000:
            raise UpstreamError(
                f"{files.folder / PREPROCESSOR}: sampling_rate is {str(rate)[:40]!r}; expected Hz"
            )
        normalize = facts.get("do_normalize", True)
        if type(normalize) is not bool:
            raise UpstreamError(
                f"{files.folder / PREPROCESSOR}: do_normalize is {str(normalize)[:40]!r}; "
                "expected true or false"
            )
    return _Plan(request.name, family, config, files, request.seed, rate, normalize)


def _start(plan: _Plan, device: torch.device, precision: str) -> Upstream:
    if plan.seed is None:
        model = trained_model(plan.family, plan.config, plan.files.weights)
        hashes = {path.name: file_sha256(path) for path in plan.files.weights}
        weights: Json = {"files": sorted(hashes.values())}
    else:
        model = random_model(plan.family, plan.config, plan.seed, plan.files.where)
        hashes = {}
        weights = {"random_seed": plan.seed, "sha256": weights_sha256(model)}
    info = _info(plan, model, weights, hashes, precision)
    packs = device.type == "cpu" and onednn.usable(PRECISIONS[precision])
    info = replace(info, provenance={**info.provenance, "kernels": "onednn" if packs else "torch"})
    _settle_weight_norm(model)
    model = model.eval().requires_grad_(False).to(device, PRECISIONS[precision])
    if plan.family.is_whisper:
        return WhisperUpstream(model, info)
    return WaveformUpstream(model, info, do_normalize=plan.do_normalize)


def _settle_weight_norm(model: Any) -> None:
    """Compute normed weights once, in float32, not at every call in the model's precision."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def _info(
    plan: _Plan, model: Any, weights: Json, hashes: Mapping[str, str], precision: str
) -> UpstreamInfo:
    config, family = plan.config, plan.family
    field, hop = 1, HOP
    if not family.is_whisper:  # 400 and 320 as published
        field, hop = conv_field(zip(config.conv_kernel, config.conv_stride, strict=True))
    return UpstreamInfo(
        name=plan.name,
        family=family.model_type,
        num_layers=(config.encoder_layers if family.is_whisper else config.num_hidden_layers) + 1,
        dim=config.d_model if family.is_whisper else config.hidden_size,
        sample_rate=plan.sample_rate,
        hop=hop,
        receptive_field=field,
        num_parameters=sum(weight.numel() for weight in model.parameters()),
        max_seconds=family.max_seconds,
        identity=_identity(plan, weights, precision),
        provenance={
            **plan.files.origin,
            "files": dict(hashes),
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        },
    )


def _identity(plan: _Plan, weights: Json, precision: str) -> dict[str, Json]:
    """What decides the features, and nothing else: no names, paths or versions."""
    fields = {name: getattr(plan.config, name, None) for name in plan.family.architecture}
    architecture = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    preprocessing: dict[str, Json] = {"sample_rate": plan.sample_rate}
    if plan.family.is_whisper:
        preprocessing["features"] = "whisper log-mel"
        preprocessing["window_samples"] = window_samples(plan.config)
        preprocessing["window_rule"] = "consecutive, each padded, first ceil(n / 320) frames"
    else:
        preprocessing["do_normalize"] = plan.do_normalize
    return {
        "family": plan.family.model_type,
        "architecture": architecture,
        "weights": weights,
        "preprocessing": preprocessing,
        "precision": precision,
        "encoding": ENCODING[precision],
    }


def _spectral(request: UpstreamRequest, device: torch.device) -> Upstream:
    if request.path is not None or request.seed is not None:
        raise UpstreamError(f"{request.target} has no weights; write just {request.target!r}")
    upstream = SpectralUpstream(SPECTRAL[request.target], device)
    upstream.info = replace(upstream.info, name=request.name)
    return upstream


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UpstreamError(f"cannot use the device {name!r}: {reason}; try 'cpu'") from error
    return device
