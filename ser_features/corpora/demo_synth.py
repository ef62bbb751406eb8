"""One voice of the demo corpus, spoken by espeak-ng in a process of its own.

A stand-alone script: what espeak-ng says depends on what it said before, so every voice is spoken
by a fresh process in a fixed order. It reads a JSON plan from stdin (``library``, ``data``,
``seed``, ``voice``, and ``items`` with ``text`` and the parameters) and writes, for each item, a
little-endian uint32 number of samples and that many int16 samples (mono, 22 050 Hz) to stdout.
"""

import contextlib
import ctypes
import json
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RETRIEVAL, DONT_EXIT = 1, 0x8000  # espeak_Initialize: give samples to a callback; never call exit
CHARS_UTF8 = 1
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4, "gap": 7}
SAMPLE_RATE = 22_050
LONGEST_PATH = 120  # espeak-ng keeps its data path in a short fixed buffer

_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


def main() -> None:
    """Speak the plan on stdin."""
    plan = json.loads(sys.stdin.read())
    espeak = ctypes.CDLL(plan["library"])
    with _short_path(plan["data"]) as data:
        rate = espeak.espeak_Initialize(RETRIEVAL, 0, data.encode(), DONT_EXIT)
        if rate != SAMPLE_RATE:
            sys.exit(f"espeak-ng did not start: found {rate}, expected {SAMPLE_RATE} Hz")
        # Its breath noise is seeded from the clock.
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(plan["seed"]))
        _choose_voice(espeak, plan["voice"])
        for samples in _speak_all(espeak, plan["items"]):
            sys.stdout.buffer.write(struct.pack("<I", len(samples) // 2) + samples)


@contextlib.contextmanager
def _short_path(data: str) -> Iterator[str]:
    if len(data.encode()) <= LONGEST_PATH:
        yield data
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "espeak-ng-data")
        link.symlink_to(data)
        yield str(link)


def _choose_voice(espeak: ctypes.CDLL, voice: str) -> None:
    """``voice`` is a language file and a variant, such as ``gmw/en-US+f2``; asked back to be sure,
    because an unknown one silently keeps the voice that was there.
    """
    language, variant = voice.split("+")
    status = espeak.espeak_SetVoiceByName(voice.encode())
    espeak.espeak_GetCurrentVoice.restype = ctypes.POINTER(_Voice)
    found = espeak.espeak_GetCurrentVoice().contents.identifier.decode()
    if status != 0 or found != f"{language}+{variant}":
        sys.exit(f"espeak-ng has no voice {voice!r}: it chose {found!r}")


def _speak_all(espeak: ctypes.CDLL, items: list[dict[str, Any]]) -> Iterator[bytes]:
    heard = bytearray()

    def keep(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            heard.extend(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(keep)
    espeak.espeak_SetSynthCallback(callback)
    for item in items:
        for name, code in PARAMETERS.items():
            espeak.espeak_SetParameter(code, int(item[name]), 0)
        text = item["text"].encode() + b"\0"
        size = ctypes.c_size_t(len(text))
        status = espeak.espeak_Synth(text, size, 0, 1, 0, CHARS_UTF8, None, None)
        if status != 0 or espeak.espeak_Synchronize() != 0 or not heard:
            sys.exit(f"espeak-ng did not speak {item['text']!r}: status {status}")
        yield bytes(heard)
        heard.clear()


if __name__ == "__main__":
    main()
