"""Time updates of s3prl's own on-the-fly recipe; prints JSON. Called by bench_heads.py.

    SERFEAT_S3PRL=.venv/s3prl python benchmarks/s3prl_update.py --updates 3

HuBERT base (random weights, the same arithmetic), s3prl's UpstreamExpert, Featurizer and emotion
head, batches of 4 padded random waveforms, 8 accumulated: one update of 32, as s3prl's
``run_downstream`` does it. Utterance lengths are log-normal with a mean of about 4.5 s.
"""

import argparse
import json
import time

import numpy as np
import s3prl_hubert
import torch
from s3prl.downstream.model import UtteranceLevel
from s3prl.upstream.interfaces import Featurizer
from torch import nn

RATE, MICRO, ACCUMULATE, CLASSES = 16000, 4, 8, 4


def update(upstream: nn.Module, head: dict[str, nn.Module], adam: torch.optim.Adam) -> float:
    rng = np.random.default_rng(1)
    seconds = np.clip(rng.lognormal(1.3, 0.6, MICRO * ACCUMULATE), 0.6, 30.0)
    for start in range(0, len(seconds), MICRO):
        lengths = (seconds[start : start + MICRO] * RATE).astype(int)
        waves = [torch.from_numpy(rng.standard_normal(n).astype(np.float32)) for n in lengths]
        with torch.no_grad():
            paired = upstream(waves)
        features = head["featurizer"](waves, paired)
        counts = torch.tensor([len(one) for one in features])
        padded = nn.utils.rnn.pad_sequence(features, batch_first=True)
        logits, _ = head["model"](head["projector"](padded), counts)
        loss = nn.functional.cross_entropy(logits, torch.arange(MICRO) % CLASSES)
        (loss / ACCUMULATE).backward()
    nn.utils.clip_grad_norm_([p for part in head.values() for p in part.parameters()], 1.0)
    adam.step()
    adam.zero_grad()
    return float(seconds.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=3)
    args = parser.parse_args()
    upstream = s3prl_hubert.upstream()
    head = {
        "featurizer": Featurizer(upstream, upstream_device="cpu"),
        "projector": nn.Linear(768, 256),
        "model": UtteranceLevel(input_dim=256, output_dim=CLASSES),
    }
    adam = torch.optim.Adam([p for part in head.values() for p in part.parameters()], lr=1e-4)
    times, audio_seconds = [], 0.0
    for _ in range(args.updates):
        started = time.perf_counter()
        audio_seconds = update(upstream, head, adam)
        times.append(time.perf_counter() - started)
    print(json.dumps({"seconds": times, "audio_seconds": audio_seconds}))


if __name__ == "__main__":
    main()
