"""What every upstream is to the rest of the program."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ser_features.records import UpstreamInfo

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class LayerOutputs:
    """Every layer of one batch.

    ``hidden`` is [layer, utterance, frame, dim] on the upstream's device, in the dtype of its
    precision; frames at and after ``num_frames[b]`` of utterance ``b`` are padding with arbitrary
    values that must not be read.
    """

    hidden: "Tensor"
    num_frames: tuple[int, ...]


class Upstream(Protocol):
    """A frozen encoder: waveforms in, every layer out, the same for any batch."""

    @property
    def info(self) -> UpstreamInfo:
        """Shape, sample rate, limits, identity and provenance."""

    def num_frames(self, num_samples: int) -> int:
        """Exact frames of a waveform of ``num_samples``; 0 where it is too short for one."""

    def encode(self, waves: Sequence[NDArray[np.float32]]) -> LayerOutputs:
        """Encode mono waveforms ([samples] float32 at ``info.sample_rate``) of any lengths.

        Raises UpstreamError where the batch is empty or a waveform is too short for one frame.
        """
