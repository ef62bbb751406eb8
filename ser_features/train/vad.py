"""Energy-based voice activity detection on cached spectral frames: Kaldi's rule.

A frame is voiced where at least ``PROPORTION`` of the frames up to ``CONTEXT`` away have a log
energy above ``THRESHOLD + MEAN_SCALE * mean``: kaldi's compute-vad with the numbers of
egs/sre16/v2/conf/vad.conf. Paper 2 says "energy-based" and prints no numbers. Kaldi's log energy is
that of the samples as 16-bit integers; here it is recovered from the mel energies, which leaves out
what the filters do (pre-emphasis and what lies below 20 Hz).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ser_features.train.resnet_recipes import FFT_SIZES, check_energy
from ser_features.upstreams.kaldi import cepstra_to_log_mel

THRESHOLD, MEAN_SCALE = 5.5, 0.5
PROPORTION, CONTEXT = 0.12, 2


def log_energy(frames: Tensor, upstream: str) -> Tensor:
    """Log energy [T] of each frame [T, D], as of 16-bit integer samples (Kaldi's scale).

    Raises TrainError for an upstream whose frames do not tell the energy (fbank is normalised).
    """
    check_energy(upstream)
    log_mel = cepstra_to_log_mel(frames.double()) if upstream == "mfcc" else frames.double()
    # Parseval: the bins up to Nyquist hold half of fft * energy
    return log_mel.logsumexp(dim=1) - math.log(FFT_SIZES[upstream] / 2) + 2 * math.log(32768)


def voiced(energy: Tensor) -> Tensor:
    """Which frames are voiced, [T] bool, from their log energies [T]."""
    loud = (energy > THRESHOLD + MEAN_SCALE * energy.mean()).double()
    window = torch.ones(1, 1, 2 * CONTEXT + 1, dtype=torch.double)
    near = F.conv1d(loud[None, None], window, padding=CONTEXT)[0, 0]
    around = F.conv1d(torch.ones_like(loud)[None, None], window, padding=CONTEXT)[0, 0]
    return near >= around * PROPORTION
