"""Run s3prl's own Featurizer and emotion expert; called as ``python s3prl_reference.py IN OUT``.

A process of its own, as the shim that makes s3prl 0.4.18 import on a current stack must not reach
the tests. IN (npz) holds ragged frames, initial weights and minibatches; OUT (npz) receives logits,
loss and gradients of the first update, and the weights after the last.
"""

import sys
import types
from collections import defaultdict

import numpy as np
import s3prl_shim  # noqa: F401, of benchmarks; before s3prl
import torch
from s3prl.downstream.emotion.expert import DownstreamExpert
from s3prl.downstream.model import UtteranceLevel
from s3prl.upstream.interfaces import Featurizer
from torch import nn

HOP = 320


class Upstream(nn.Module):
    """The shape of an upstream, for the constructor of Featurizer."""

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.layers, self.dim = layers, dim

    def get_downsample_rates(self, key: str) -> int:
        return HOP

    def forward(self, waves: list) -> dict:
        frames = len(waves[0]) // HOP
        return {"hidden_states": [torch.zeros(1, frames, self.dim) for _ in range(self.layers)]}


def build(given: dict) -> tuple[Featurizer, DownstreamExpert]:
    layers, dim = given["frames"].shape[1:]
    featurizer = Featurizer(Upstream(layers, dim), upstream_device="cpu")
    expert = DownstreamExpert.__new__(DownstreamExpert)  # its constructor wants IEMOCAP's files
    nn.Module.__init__(expert)
    hidden, classes = given["projector"].shape[0], given["output"].shape[0]
    expert.projector = nn.Linear(dim, hidden)
    expert.model = UtteranceLevel(input_dim=hidden, output_dim=classes)
    expert.objective = nn.CrossEntropyLoss()
    expert.test_dataset = types.SimpleNamespace(idx2emotion=dict(enumerate("abcdefg"[:classes])))
    names = ("projector", "projector_bias", "output", "output_bias", "scalars")
    with torch.no_grad():
        for param, name in zip(parameters(featurizer, expert), names, strict=True):
            param.copy_(torch.from_numpy(given[name]))
    return featurizer, expert


def parameters(featurizer: Featurizer, expert: DownstreamExpert) -> list[nn.Parameter]:
    return [*expert.projector.parameters(), *expert.model.parameters(), *featurizer.parameters()]


class Utterances:
    def __init__(self, given: dict) -> None:
        self.frames = torch.from_numpy(given["frames"])  # [T, L, D]
        self.bounds = np.cumsum([0, *given["lengths"]])
        self.labels = given["labels"]

    def features(self, featurizer: Featurizer, index: np.ndarray) -> list:
        """What the runner passes on: padded layers through the featurizer, cut to length."""
        pieces = [self.frames[self.bounds[i] : self.bounds[i + 1]] for i in index]
        padded = nn.utils.rnn.pad_sequence(pieces, batch_first=True)  # [B, T, L, D]
        waves = [torch.zeros(len(piece) * HOP) for piece in pieces]
        return featurizer(waves, {"hidden_states": list(padded.unbind(2))})


def main(source: str, target: str) -> None:
    given = dict(np.load(source))
    featurizer, expert = build(given)
    params = parameters(featurizer, expert)
    data = Utterances(given)
    adam = torch.optim.Adam(params, lr=float(given["lr"]))
    found: dict[str, np.ndarray] = {}
    micro, accumulate = int(given["micro"]), given["index"].shape[1] // int(given["micro"])
    logits: list[torch.Tensor] = []
    hook = expert.model.register_forward_hook(lambda _m, _i, out: logits.append(out[0].detach()))
    for step, (index, weight) in enumerate(zip(given["index"], given["weight"], strict=True)):
        losses = []
        for part in range(accumulate):  # s3prl/downstream/runner.py: accumulate, clip, step
            slot = slice(part * micro, (part + 1) * micro)
            rows = index[slot][weight[slot] > 0]
            features = data.features(featurizer, rows)
            labels = data.labels[rows].tolist()
            loss = expert("train", features, labels, [""] * len(rows), defaultdict(list))
            (loss / accumulate).backward()
            losses.append(loss.item())
        nn.utils.clip_grad_norm_(params, float(given["clip"]))
        if step == 0:
            found["logits"], found["loss"] = torch.cat(logits).numpy(), np.array(np.mean(losses))
            hook.remove()
            found |= {f"grad{i}": p.grad.numpy().copy() for i, p in enumerate(params)}
        adam.step()
        adam.zero_grad()
    found |= {f"weight{i}": p.detach().numpy() for i, p in enumerate(params)}
    np.savez(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
