"""s3prl's own HuBERT base, with random weights: the same arithmetic as the published ones.

Imported by the scripts that run in a process of their own, with SERFEAT_S3PRL naming the folder.
"""

from argparse import Namespace

import s3prl_shim  # noqa: F401, before s3prl
import torch
from s3prl.upstream.hubert import expert as hubert
from s3prl.upstream.hubert.hubert_model import (
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
