"""Lets s3prl 0.4.18 be imported on a current torch: import this first, in a process of its own.

torchaudio's compiled part does not load beside a CPU torch, and a broken torchaudio breaks
transformers; the parts of s3prl that the benchmarks and tests run use none of it. SERFEAT_S3PRL
names the folder that ``make s3prl`` made.
"""

import os
import sys
import types
import warnings

warnings.filterwarnings("ignore")
if "SERFEAT_S3PRL" in os.environ:
    sys.path.insert(0, os.environ["SERFEAT_S3PRL"])
for name in ("torchaudio", "torchaudio.sox_effects", "torchaudio.transforms"):
    sys.modules[name] = types.ModuleType(name)
audio = sys.modules["torchaudio"]
audio.__path__ = []
audio.transforms = sys.modules["torchaudio.transforms"]
audio.transforms.Resample = audio.sox_effects = object
audio.set_audio_backend = audio.load = lambda *_: None
