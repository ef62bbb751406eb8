"""The demo corpus: synthetic emotional speech, made on the spot by espeak-ng.

8 voices × 4 emotions × 10 sentences, 16 kHz, int16. It exists so that the main job runs without a
download; a score on it says nothing about real speech.

Every emotion says the same sentences, so only the prosody differs. The rules are what the
literature on emotional prosody agrees on, relative to the voice's neutral way of speaking:

=======  ===========  =====================  =============  ========  ======
emotion  rate         mean pitch             pitch range    loudness  pauses
=======  ===========  =====================  =============  ========  ======
neutral  as it is     as it is               as it is       as it is  normal
angry    faster       higher                 wider          louder    short
happy    faster       higher than for anger  widest         louder    normal
sad      slower       lower                  narrow         softer    longer
=======  ===========  =====================  =============  ========  ======

Voices differ in accent, timbre, base pitch, base rate and in how strongly they express; every
utterance is drawn around its rule, and has a faint noise floor, so the emotions overlap.
"""

import hashlib
import importlib.metadata
import io
import json
import os
import random
import struct
import subprocess
import sys
import wave
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ser_features.corpora import demo_synth
from ser_features.corpora.files import read_manifest
from ser_features.corpora.spec import CorpusSpec, Published
from ser_features.errors import DamageError, ManifestError
from ser_features.files import read_sealed, write_atomic, write_sealed
from ser_features.fingerprint import file_sha256, fingerprint
from ser_features.manifest import Manifest
from ser_features.records import Json

SEED = 20
SAMPLE_RATE = 16_000
_SEAL = "demo.json"
_MANIFEST = "manifest.csv"

VOICES = {
    "f1": "gmw/en-US+f2",
    "f2": "gmw/en-GB-x-rp+f3",
    "f3": "gmw/en-GB-scotland+Annie",
    "f4": "gmw/en-029+linda",
    "m1": "gmw/en-US+m3",
    "m2": "gmw/en+m7",
    "m3": "gmw/en-GB-x-gbclan+Michael",
    "m4": "gmw/en-US-nyc+m4",
}
"""Speaker → espeak-ng's language file and variant."""

# Rate and volume are factors; pitch and range are added (points of 100), and gap (10 ms each).
EMOTIONS: Mapping[str, Mapping[str, float]] = {
    "angry": {"rate": 1.18, "pitch": 9, "range": 18, "volume": 1.45, "gap": 0},
    "happy": {"rate": 1.1, "pitch": 20, "range": 32, "volume": 1.15, "gap": 0},
    "neutral": {"rate": 1.0, "pitch": 0, "range": 0, "volume": 1.0, "gap": 0},
    "sad": {"rate": 0.82, "pitch": -12, "range": -26, "volume": 0.72, "gap": 2},
}

SENTENCES = (
    "The train leaves the station at nine.",
    "Your letter is lying on the kitchen table.",
    "They moved into the house next door.",
    "She will bring the papers on Wednesday.",
    "The shop on the corner is closed today.",
    "I told him about the plan last night.",
    "We are going to the lake this weekend.",
    "The window in the office was open.",
    "He put the blue cup back on the shelf.",
    "It will be dark in seven hours.",
)


def make_demo(folder: Path) -> Manifest:
    """The demo corpus in ``folder``, made if it is not there; its manifest.

    Bit-identical on every run with one version of espeak-ng. A second call only checks every
    file's hash, and makes again what is missing or changed. Raises ManifestError where something
    must be made and ``espeakng-loader`` (extra ``demo``) is not installed.
    """
    seal = _read_seal(folder)
    if damaged := _damaged(folder, seal):
        _make(folder, seal, damaged)
    return read_manifest(folder / _MANIFEST, corpus="demo")


def _read_seal(folder: Path) -> Json:
    """What was made here; nothing where there is no seal, or that of another recipe."""
    nothing: Json = {"recipe": None, "espeak": None, "files": {}}
    try:
        seal = read_sealed(folder / _SEAL)
    except (OSError, DamageError):
        return nothing
    return seal if seal["recipe"] == _recipe() else nothing


def _recipe() -> str:
    return fingerprint([1, SEED, SAMPLE_RATE, [_plan(voice) for voice in VOICES]])


def _damaged(folder: Path, seal: Json) -> set[str]:
    """Names (files of the corpus, relative) that are absent or not what the seal says."""
    wanted = {name for voice in VOICES for name, _ in _plan(voice)} | {_MANIFEST}
    return {name for name in wanted if _sha256(folder / name) != seal["files"].get(name, "")}


def _sha256(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None


def _make(folder: Path, seal: Json, damaged: set[str]) -> None:
    """Write the damaged files: only those, if the espeak-ng at hand is the one of the seal."""
    version = _espeak_version()
    names = {voice: [name for name, _ in _plan(voice)] for voice in VOICES}
    same = seal["espeak"] == version
    todo = [voice for voice in VOICES if not same or damaged & set(names[voice])]
    hashes = dict(seal["files"]) if same else {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for voice, spoken in zip(todo, pool.map(_speak, todo), strict=True):
            for name, data in zip(names[voice], spoken, strict=True):
                hashes[name] = hashlib.sha256(data).hexdigest()
                if not same or name in damaged:
                    write_atomic(folder / name, data)
    table = _manifest_csv()
    hashes[_MANIFEST] = hashlib.sha256(table.encode()).hexdigest()
    write_atomic(folder / _MANIFEST, table)
    write_sealed(folder / _SEAL, {"recipe": _recipe(), "espeak": version, "files": hashes})


def _espeak_version() -> str:
    try:
        return importlib.metadata.version("espeakng-loader")
    except importlib.metadata.PackageNotFoundError:
        raise ManifestError(
            "the demo corpus is spoken by espeak-ng, which is not installed; "
            "run: pip install 'serfeat[demo]'"
        ) from None


def _manifest_csv() -> str:
    lines = ["id,path,label,speaker"]
    for voice in VOICES:
        for name, _ in _plan(voice):
            stem = Path(name).stem
            lines.append(f"{stem},{name},{stem.split('_')[1]},{voice}")
    return "\n".join(lines) + "\n"


def _plan(voice: str) -> list[tuple[str, Json]]:
    """``(file name, espeak-ng parameters)`` of a voice's utterances, in the order of speaking."""
    draw = random.Random(f"{SEED}-{voice}")
    base = {"rate": draw.uniform(155, 190), "pitch": draw.uniform(36, 54)}
    base |= {"range": draw.uniform(42, 58), "volume": draw.uniform(46, 54)}
    strength = draw.uniform(0.85, 1.15)
    return [
        (f"wav/{voice}/{voice}_{emotion}_{number:02}.wav", {"text": text, **prosody})
        for number, text in enumerate(SENTENCES, 1)
        for emotion in EMOTIONS
        for prosody in [_prosody(draw, base, EMOTIONS[emotion], strength * draw.uniform(0.6, 1.3))]
    ]


def _prosody(
    draw: random.Random, base: Mapping[str, float], rule: Mapping[str, float], strength: float
) -> dict[str, int]:
    """The voice's base moved by the rule, times ``strength``, and drawn around it."""

    def times(name: str, spread: float) -> int:
        return round(base[name] * (1 + strength * (rule[name] - 1)) * draw.gauss(1, spread))

    def plus(name: str, spread: float) -> int:
        return min(99, max(1, round(base[name] + strength * rule[name] + draw.gauss(0, spread))))

    return {
        "rate": times("rate", 0.05),
        "pitch": plus("pitch", 4),
        "range": plus("range", 7),
        "volume": min(90, times("volume", 0.08)),
        "gap": max(0, round(strength * rule["gap"] + draw.gauss(0, 0.4))),
    }


def _speak(voice: str) -> list[bytes]:
    """A voice's utterances as WAV files, by a fresh process (see ``demo_synth``)."""
    import espeakng_loader

    request = {
        "library": str(espeakng_loader.get_library_path()),
        "data": str(espeakng_loader.get_data_path()),
        "seed": SEED,
        "voice": VOICES[voice],
        "items": [item for _, item in _plan(voice)],
    }
    # -P keeps this folder's module names out of the child's imports.
    done = subprocess.run(
        [sys.executable, "-P", demo_synth.__file__],
        input=json.dumps(request).encode(),
        capture_output=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        detail = done.stderr.decode(errors="replace").strip()[-300:]
        raise ManifestError(f"espeak-ng failed for the demo voice {voice!r}: {detail}")
    noise = np.random.default_rng([SEED, list(VOICES).index(voice)])
    return [_wav(_record(spoken, noise)) for spoken in _split(done.stdout)]


def _split(raw: bytes) -> Iterator[NDArray[np.int16]]:
    """The utterances of the child's output, int16 [n]."""
    position = 0
    while position < len(raw):
        (count,) = struct.unpack_from("<I", raw, position)
        yield np.frombuffer(raw, "<i2", count, position + 4)
        position += 4 + 2 * count


def _record(spoken: NDArray[np.int16], noise: np.random.Generator) -> NDArray[np.int16]:
    """int16 [n] at espeak-ng's rate to int16 [m] at 16 kHz, over noise of -66 … -50 dB."""
    import soxr

    samples = soxr.resample(spoken / 32768, demo_synth.SAMPLE_RATE, SAMPLE_RATE, "HQ")
    level = 10 ** (noise.uniform(-66, -50) / 20)
    samples = samples + level * noise.standard_normal(len(samples))
    rounded: NDArray[np.int16] = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    return rounded


def _wav(samples: NDArray[np.int16]) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


DEMO = CorpusSpec(
    name="demo",
    description="synthetic speech, made on the spot: 8 voices, 10 sentences, 4 emotions",
    languages=("English",),
    layout="any folder; the corpus is written into it",
    published=Published(320, 8, {"angry": 80, "happy": 80, "neutral": 80, "sad": 80}),
    source="its own rules",
    read=make_demo,
)
