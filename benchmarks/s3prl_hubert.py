"""s3prl's own HuBERT base, with random weights: the same arithmetic as the published ones.

Imported by the scripts that run in a process of their own, with SERFEAT_S3PRL naming the folder.
"""

import os
import sys
import types
import warnings
from argparse import Namespace

warnings.filterwarnings("ignore")
if "SERFEAT_S3PRL" in os.environ:
    sys.path.insert(0, os.environ["SERFEAT_S3PRL"])
# torchaudio's compiled part does not load beside a CPU torch, and none of it is used here.
for name in ("torchaudio", "torchaudio.sox_effects", "torchaudio.transforms"):
    sys.modules[name] = types.ModuleType(name)
audio = sys.modules["torchaudio"]
audio.__path__ = []
audio.transforms = sys.modules["torchaudio.transforms"]
audio.transforms.Resample = audio.sox_effects = object
audio.set_audio_backend = audio.load = lambda *_: None

import torch  # noqa: E402
from s3prl.upstream.hubert import expert as hubert  # noqa: E402
from s3prl.upstream.hubert.hubert_model import (  # noqa: E402
    HubertConfig,
    HubertModel,
    HubertPretrainingConfig,
)


def load(_: object) -> tuple[torch.nn.Module, Namespace]:
    torch.manual_seed(0)
    config = HubertConfig(label_rate=50.0)
    model = HubertModel(config, HubertPretrainingConfig(), [["x"] * 504])
    return model.eval(), Namespace(normalize=False)


def upstream() -> torch.nn.Module:
    hubert.load_converted_model = load
    return hubert.UpstreamExpert("random").eval()
