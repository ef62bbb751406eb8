"""A tiny deterministic upstream, corpora of made-up recordings, and what a store holds of them."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from ser_features.audio import load as load_audio
from ser_features.extract import pipeline, repair, spec
from ser_features.extract.pipeline import Options, Report, extract
from ser_features.extract.pooling import pool, ragged_frames
from ser_features.manifest import Manifest
from ser_features.records import UpstreamInfo, Utterance
from ser_features.store.reader import open_feature_set
from ser_features.upstreams.protocol import LayerOutputs
from ser_features.upstreams.request import parse_request

RATE, FIELD, HOP = 8000, 160, 80
LAYERS, DIM = 3, 4


@dataclass
class FakeUpstream:
    """Windows of the waveform times fixed matrices; batches hold NaN behind each utterance.

    ``fit`` is the largest batch the "device" takes and ``fit_samples`` its longest utterance;
    ``scale`` multiplies the last layer, ``poison`` is put into every utterance's last frame.
    The first ``deaths`` calls of ``encode`` (counted in the file ``dies``) kill their process;
    each adds its process to the file ``alive``.
    """

    name: str = "fake"
    seed: int = 0
    precision: str = "float32"
    fit: int = 10**9
    fit_samples: int = 10**9
    scale: float = 1.0
    poison: float | None = None
    sleep: float = 0.0
    dim: int = DIM
    alive: str = ""
    dies: str = ""
    deaths: int = 0
    batches: list[int] = field(default_factory=list)

    @property
    def info(self) -> UpstreamInfo:
        return UpstreamInfo(
            name=self.name,
            family="fake",
            num_layers=LAYERS,
            dim=self.dim,
            sample_rate=RATE,
            hop=HOP,
            receptive_field=FIELD,
            num_parameters=LAYERS * FIELD * self.dim,
            max_seconds=None,
            identity={"family": "fake", "seed": self.seed, "precision": self.precision},
            provenance={"source": "test"},
        )

    def num_frames(self, num_samples: int) -> int:
        return max(0, (num_samples - FIELD) // HOP + 1)

    def encode(self, waves: Sequence[np.ndarray]) -> LayerOutputs:
        self._tell()
        time.sleep(self.sleep)
        self._die()
        self.batches.append(len(waves))
        if len(waves) > self.fit or max(len(wave) for wave in waves) > self.fit_samples:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        counts = tuple(self.num_frames(len(wave)) for wave in waves)
        shape = (LAYERS, len(waves), max(counts) + 1, self.dim)
        hidden = torch.full(shape, float("nan"))  # [L, B, T, D]
        for b, (wave, count) in enumerate(zip(waves, counts, strict=True)):
            hidden[:, b, :count] = self._layers(wave)
        return LayerOutputs(hidden, counts)

    def _tell(self) -> None:
        if self.alive:
            with Path(self.alive).open("a") as file:
                file.write(f"{os.getpid()}\n")

    def _die(self) -> None:
        if not self.deaths:
            return
        with Path(self.dies).open("ab", buffering=0) as file:
            file.write(b".")
            if file.tell() <= self.deaths:
                os.kill(os.getpid(), signal.SIGKILL)

    def _layers(self, wave: np.ndarray) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        weights = torch.randn(LAYERS, FIELD, self.dim, generator=generator)
        windows = torch.from_numpy(wave).unfold(0, FIELD, HOP)  # [T, FIELD]
        layers = torch.tanh(windows @ weights) + torch.arange(1, LAYERS + 1)[:, None, None]
        layers[-1] *= self.scale
        if self.poison is not None:
            layers[-1, -1, -1] = self.poison
        return layers


def load_fake(
    request: str, *, device: str = "cpu", precision: str = "float32", **changes: Any
) -> FakeUpstream:
    """What ``use_fake`` loads, as a function that other processes can import."""
    parsed = parse_request(request)
    return FakeUpstream(parsed.name, parsed.seed or 0, precision, **changes)


def use_loader(monkeypatch: Any, load: Callable[..., Any]) -> None:
    """Make extraction load with ``load``, which workers import by its name."""
    monkeypatch.setattr(pipeline, "load_upstream", load)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nothing here survives a power cut


def use_fake(monkeypatch: Any, **changes: Any) -> Callable[..., FakeUpstream]:
    """Make extraction and repair load a fake upstream: ``NAME`` or ``NAME@random:SEED``.

    Returns the loader; ``loader.made`` lists what it made.
    """
    made: list[FakeUpstream] = []

    def load(request: str, *, device: str = "cpu", precision: str = "float32") -> FakeUpstream:
        made.append(load_fake(request, device=device, precision=precision, **changes))
        return made[-1]

    load.made = made  # type: ignore[attr-defined]
    monkeypatch.setattr(pipeline, "load_upstream", load)
    monkeypatch.setattr(repair, "load_upstream", load)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nothing here survives a power cut
    return load


def tiny_shards(monkeypatch: Any, rows: int = 3, capacity: int = 64) -> None:
    """Many small shards: at most ``rows`` utterances and ``capacity`` frames each."""
    monkeypatch.setattr(spec, "POOLED_ROWS", rows)
    monkeypatch.setattr(spec, "FRAMES_ROWS", rows)
    monkeypatch.setattr(spec, "POOLED_CAPACITY", capacity)
    monkeypatch.setattr(spec, "object_frames", lambda *shape: capacity)


def recording(path: Path, num_samples: int, seed: int, rate: int = RATE) -> Path:
    """Noise whose loudness changes, as a 16-bit WAV file."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    envelope = np.linspace(0.05, 0.2, num_samples)
    soundfile.write(path, rng.standard_normal(num_samples).clip(-4, 4) * envelope, rate, "PCM_16")
    return path


def make_corpus(folder: Path, lengths: Sequence[int], corpus: str = "made-up") -> Manifest:
    """Utterances ``u0`` … of these numbers of samples at 8 kHz, each its own file."""
    return manifest_of(
        [recording(folder / f"u{i}.wav", n, i) for i, n in enumerate(lengths)], corpus
    )


def manifest_of(paths: Sequence[Path], corpus: str = "made-up") -> Manifest:
    return Manifest(corpus, tuple(Utterance(path.stem, path, label="x") for path in paths))


def run(
    manifest: Manifest, store: Path, request: str = "fake", progress: Any = None, **options: Any
) -> Report:
    return extract(manifest, request, store, Options(workers=2, **options), progress)


def content_by_id(store: Path, which: Any) -> dict[str, tuple[Any, ...]]:
    """All that a reader gives of each utterance, whatever the order of the shards."""
    found = open_feature_set(store, which)
    pooled = [found.pooled(kind) for kind in ("mean", "std", "mean_layernorm")]
    frames = found.spec.frames != "none"
    return {
        key: (
            int(found.num_frames[i]),
            found.sources[key],
            *(array[i].tobytes() for array in pooled),
            found.frames(key).tobytes() if frames else b"",
        )
        for i, key in enumerate(found.ids)
    }


def alone(upstream: Any, utterance: Utterance) -> tuple[np.ndarray, ...]:
    """One utterance's mean, std, mean of layer-normed frames and frames, encoded by itself."""
    outputs = upstream.encode([load_audio(utterance, upstream.info.sample_rate).samples])
    pooled = pool(outputs.hidden, outputs.num_frames)
    frames = ragged_frames(outputs.hidden, outputs.num_frames)
    return pooled.mean[0], pooled.std[0], pooled.mean_layernorm[0], frames


def contents_of(store: Path) -> dict[str, bytes]:
    """Every file of a store but those that say when and on which devices it was made."""
    files = {p: p.read_bytes() for p in store.rglob("*") if p.is_file() and p.name != "lock"}
    return {str(p.relative_to(store)): data for p, data in files.items() if b'"spec' not in data}


def files_of(store: Path) -> dict[Path, tuple[int, int]]:
    """Every file with the time of its last change and its inode: a rewritten one differs."""
    found = [path for path in store.rglob("*") if path.is_file() and path.name != "lock"]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


class Listener:
    """A progress watcher that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stages: list[tuple[str, float, str]] = []
        self.done = 0.0

    def start(self, what: str, total: float, unit: str) -> None:
        self.stages.append((what, total, unit))
        self.done = 0.0

    def advance(self, amount: float) -> None:
        self.done += amount

    def say(self, message: str) -> None:
        self.said.append(message)
