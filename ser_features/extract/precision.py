"""How far a lower precision moves every layer, measured on the corpus that is extracted."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_features.audio import load
from ser_features.errors import AudioError, UpstreamError
from ser_features.extract.engine import Order
from ser_features.fingerprint import fingerprint
from ser_features.records import FeatureSetSpec, Json, Utterance
from ser_features.upstreams.protocol import Upstream

NUM_UTTERANCES, MAX_SECONDS = 4, 10.0
_TRIED = 64  # of a corpus whose recordings are mostly broken
_KEY = "deviation_from_float32"


def layer_deviation(
    got: Upstream, reference: Upstream, waves: Iterable[NDArray[np.float32]]
) -> tuple[float, ...]:
    """Relative RMS distance of every layer over all frames of the waveforms, each alone.

    sqrt(sum of squared differences / sum of squared reference values), first layer first.
    """
    errors, sizes = [], []
    for wave in waves:
        want, have = (_layers(upstream, wave) for upstream in (reference, got))
        errors.append((have - want).square().sum((1, 2)))
        sizes.append(want.square().sum((1, 2)))
    error, size = torch.stack(errors).sum(0), torch.stack(sizes).sum(0)
    total: Tensor = torch.where(error == 0, error, error / size)  # a layer of zeros is met exactly
    return tuple(float(value) for value in total.sqrt())


def _layers(upstream: Upstream, wave: NDArray[np.float32]) -> Tensor:
    outputs = upstream.encode([wave])
    return outputs.hidden[:, 0, : outputs.num_frames[0]].double().cpu()  # [L, T, D]


@dataclass(frozen=True)
class Deviation:
    """The deviation of an order's upstream, measured at most once, and only for a new set."""

    order: Order
    device: str

    def into(self, spec: FeatureSetSpec) -> FeatureSetSpec:
        """The specification with the deviation in its provenance; float32 has none."""
        lower = self.order.upstream.info.identity.get("precision", "float32") != "float32"
        if not lower or _KEY in spec.provenance or self.measured is None:
            return spec
        return replace(spec, provenance={**spec.provenance, _KEY: self.measured})

    @cached_property
    def measured(self) -> Json:
        """Per layer, on which utterances; None where none of the corpus can be decoded.

        UpstreamError where the precision cannot hold the features.
        """
        order = self.order
        found = list(_sample(order.utterances.values(), order.upstream))
        if not found:
            return None
        reference = order.load(order.request, device=self.device, precision="float32")
        names, waves = [name for name, _ in found], [samples for _, samples in found]
        layers = layer_deviation(order.upstream, reference, waves)
        if not all(map(math.isfinite, layers)):
            raise UpstreamError(
                f"{order.upstream.info.name} in {order.precision}: of {names} some features are "
                "NaN or infinite; try bfloat16 or float32"
            )
        order.progress.say(
            f"{order.upstream.info.name} in {order.precision} deviates from float32 by "
            f"{min(layers):.2%} to {max(layers):.2%} (relative RMS of a layer)"
        )
        return {
            "relative_rms_per_layer": [float(f"{value:.4g}") for value in layers],
            "utterances": names,
            "max_seconds": MAX_SECONDS,
        }


def _sample(
    utterances: Iterable[Utterance], upstream: Upstream
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """A few utterances by the fingerprints of their ids, so that their order does not matter."""
    rate, count = upstream.info.sample_rate, 0
    for utterance in _by_fingerprint(utterances):
        try:
            samples = load(utterance, rate).samples[: int(MAX_SECONDS * rate)]
        except AudioError:
            continue  # the extraction reports it
        if upstream.num_frames(len(samples)) > 0:
            count += 1
            yield utterance.id, samples
        if count == NUM_UTTERANCES:
            return


def _by_fingerprint(utterances: Iterable[Utterance]) -> Sequence[Utterance]:
    return sorted(utterances, key=lambda utterance: fingerprint(utterance.id))[:_TRIED]
