"""One recording augmented, to listen to and to look at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy import signal

from ser_features.audio import load
from ser_features.audio_file import show_path
from ser_features.augment.augmented import Augmented, partner_samples
from ser_features.augment.extra import need
from ser_features.augment.kind import Samples
from ser_features.augment.partners import NEUTRAL, Partners
from ser_features.errors import UsageError
from ser_features.records import Utterance
from ser_features.store.schema import safe_part

WINDOW, HOP = 0.025, 0.01
RANGE_DB = 80


@dataclass(frozen=True, slots=True)
class Preview:
    """The files written, and the draw that they show as canonical JSON."""

    wav: Path
    picture: Path
    draw: str


def preview(
    file: Path, augmented: Augmented, folder: Path, rate: int = 16000, partner: Path | None = None
) -> Preview:
    """Write ``FILE--NAME.wav`` (32-bit float, ``rate`` Hz) and ``.png`` into ``folder``.

    The draw is that of an utterance whose id is the file's stem; ``partner`` is the recording that
    CopyPaste joins. Raises AudioError, and UsageError where a partner or matplotlib is missing.
    """
    utterances = _utterances(file, augmented, partner)
    before = load(utterances[0], rate).samples
    partners, by_id = Partners(utterances), {one.id: one for one in utterances}
    draw, _ = augmented.draw(utterances[0], len(before), rate, partners)
    after = augmented.apply(before, draw, rate, partner_samples(by_id, draw, rate))
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{safe_part(file.stem)}--{safe_part(augmented.name)}"
    made = Preview(folder / f"{stem}.wav", folder / f"{stem}.png", draw)
    names = (show_path(Path(file.name)), augmented.name)
    figure = _figure(before, after, rate, names)
    soundfile.write(made.wav, after, rate, subtype="FLOAT")
    figure.savefig(made.picture, dpi=120)
    return made


def _utterances(file: Path, augmented: Augmented, partner: Path | None) -> list[Utterance]:
    name = show_path(Path(file.stem))
    own = Utterance(name, str(file), label=NEUTRAL)  # so that any partner suits
    joining = augmented.augmentation.joining
    if not joining:
        return [own]
    if partner is None:
        raise UsageError(f"{joining[0]} joins two recordings; name the other with --partner FILE")
    other = f"partner:{show_path(Path(partner.name))}"
    return [own, Utterance(other, str(partner), label=NEUTRAL)]


def _figure(before: Samples, after: Samples, rate: int, titles: tuple[str, str]) -> Any:
    """Both spectrograms over the same seconds, hertz and decibels."""
    need("matplotlib")
    figure = need("matplotlib.figure").Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    levels = [spectrogram(samples, rate) for samples in (before, after)]
    top = max(float(one.max()) for one in levels)
    for panel, one, title, samples in zip(panels, levels, titles, (before, after), strict=True):
        seconds = len(samples) / rate
        drawn = panel.imshow(
            one, origin="lower", aspect="auto", cmap="magma", vmin=top - RANGE_DB, vmax=top,
            extent=(0, seconds, 0, rate / 2000),
        )  # fmt: skip
        panel.set_title(f"{title} ({seconds:.2f} s)", parse_math=False)
        panel.set_ylabel("kHz")
    panels[-1].set_xlim(0, max(len(before), len(after)) / rate)
    panels[-1].set_xlabel("seconds")
    figure.colorbar(drawn, ax=panels, label="dB")
    return figure


def spectrogram(samples: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Power in dB [frequency, frame], frames of 25 ms every 10 ms."""
    size = min(round(WINDOW * rate), len(samples))
    overlap = max(0, size - round(HOP * rate))
    power = signal.spectrogram(samples, rate, nperseg=size, noverlap=overlap, mode="psd")[2]
    decibels: NDArray[np.float64] = 10 * np.log10(power.astype(np.float64) + 1e-14)
    return decibels
