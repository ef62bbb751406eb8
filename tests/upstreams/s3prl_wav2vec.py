"""Write a random wav2vec checkpoint and s3prl's layers for it: ``python s3prl_wav2vec.py FOLDER``.

A process of its own, as the shim that makes s3prl 0.4.18 import must not reach the tests.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import s3prl_shim  # noqa: F401, of benchmarks; before s3prl
import torch
from s3prl.upstream.wav2vec.expert import UpstreamExpert
from s3prl.upstream.wav2vec.wav2vec_model import Wav2VecConfig, Wav2VecModel

FEATURES = "[(32, 10, 5), (32, 8, 4)] + [(32, 4, 2)] * 3 + [(32, 1, 1)]"
CONFIGS = {
    "plain": {},
    "gumbel": {"vq_type": "gumbel", "vq_depth": 2, "combine_groups": True, "activation": "gelu"},
    "separate": {"vq_type": "gumbel", "vq_depth": 1, "log_compression": False},
    "kmeans": {"vq_type": "kmeans", "combine_groups": True, "agg_zero_pad": True},
    "bare": {"skip_connections_agg": False, "non_affine_group_norm": True, "no_conv_bias": True},
}


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    waves = {str(n): rng.normal(0, 0.1, n).astype(np.float32) for n in (1600, 4000, 2345)}
    np.savez(folder / "waves.npz", **waves)
    for name, changed in CONFIGS.items():
        torch.manual_seed(1)
        config = Wav2VecConfig(
            infonce=True,
            conv_feature_layers=FEATURES,
            conv_aggregator_layers="[(32, 2, 1), (32, 3, 1), (32, 4, 1)]",
            vq_vars=20,
            **changed,
        )
        model = Wav2VecModel(config)
        for weight in model.parameters():  # norms that do something
            torch.nn.init.normal_(weight, std=0.3)
        path = folder / f"{name}.pt"
        task = {"sample_rate": 16000}
        saved = {"task_cfg": task, "model_cfg": asdict(config), "model_weight": model.state_dict()}
        torch.save(saved, path)
        expert = UpstreamExpert(str(path)).eval()
        with torch.no_grad():
            layers = {
                n: torch.cat(expert([torch.from_numpy(wave)])["hidden_states"]).numpy()
                for n, wave in waves.items()
            }
        np.savez(folder / f"{name}.npz", **layers)


main(Path(sys.argv[1]))
