"""A checkpoint from a stranger: it loads, or an error names its file; nothing of it runs."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from hostile import bounded, changed, hows, told, values
from ser_features.errors import SerfeatError, UpstreamError
from ser_features.upstreams import weights
from ser_features.upstreams.load import load_upstream
from ser_features.upstreams.native import read_content

EXAMPLES = 1000 if "SERFEAT_TORTURE" in os.environ else 12
CONFIG = {
    "model_type": "hubert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "conv_dim": [8] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2], "num_conv_pos_embeddings": 4, "hidden_act": "gelu",
    "num_conv_pos_embedding_groups": 2, "feat_extract_norm": "group", "layer_norm_eps": 1e-5,
}  # fmt: skip
WAVE = (0.1 * np.random.RandomState(0).standard_normal(4000)).astype(np.float32)
FACTS = {"do_normalize": True, "sampling_rate": 16000}
PICKLES = ("pytorch_model.bin", "model.pt")


class Poison:
    """A pickle that leaves a mark where it is run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoint"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    (made / "preprocessor_config.json").write_text(json.dumps(FACTS))
    values = {key: value for key, value in CONFIG.items() if key != "model_type"}
    model = transformers.HubertModel(transformers.HubertConfig(**values))
    save_file(model.state_dict(), made / "model.safetensors")
    return made


def attempt(request: str, *names: str, finite: bool = True) -> bool:
    """Whether it loads; a refusal names the file. What loads runs."""
    try:
        with bounded():
            upstream = load_upstream(request)
    except SerfeatError as error:
        told(error, *names)
        return False
    if upstream.num_frames(len(WAVE)):
        with bounded():
            found = upstream.encode([WAVE]).hidden
        assert not finite or torch.isfinite(found).all()
    return True


@pytest.mark.parametrize("seed", ["", "@random:0"])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_configuration_that_says_anything(folder: Path, name: str, seed: str, counted) -> None:
    body = CONFIG if name == "config.json" else FACTS
    outcomes = [0, 0]

    @settings(max_examples=EXAMPLES, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=values)
    @example(pick=0, how="replace", new=[])  # a model type that cannot be looked up
    @example(pick=3, how="replace", new=-1)  # attention heads: it loaded, and could not run
    @example(pick=12, how="replace", new=0)  # a convolution of no width
    @example(pick=24, how="replace", new=0)  # a stride of nothing
    def change(pick: int, how: str, new: object) -> None:
        (folder / name).write_text(json.dumps(changed(body, pick, how, new)))
        outcomes[attempt(f"{folder}{seed}", str(folder), "config.json")] += 1

    assert attempt(f"{folder}{seed}")
    change()
    counted(file=name + seed, loaded=outcomes[1], refused=outcomes[0])


@pytest.mark.parametrize("key", ["attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["evil/kernel", "flash_attention_2", {"": "evil/kernel"}])
def test_kernels_from_the_hub_are_never_fetched(folder: Path, key: str, value: object) -> None:
    """transformers downloads and runs the kernel that a configuration names."""
    (folder / "config.json").write_text(json.dumps({**CONFIG, key: value}))
    with pytest.raises(UpstreamError, match=f"code of its own .'{key}'"):
        load_upstream(str(folder))
    (folder / "config.json").write_text(json.dumps({**CONFIG, key: "eager"}))
    assert attempt(str(folder))


WHISPER = {
    "model_type": "whisper", "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
}  # fmt: skip


@pytest.mark.parametrize("key", ["return_dict", "dropout", "activation_dropout", "torchscript"])
def test_switches_that_decide_no_features_do_not_matter(folder: Path, key: str) -> None:
    """They made the encoder return something else, or nothing at all."""
    (folder / "preprocessor_config.json").write_text("{}")
    for value in (False, True, -1, float("nan")):
        (folder / "config.json").write_text(json.dumps({**WHISPER, key: value}))
        assert attempt(f"{folder}@random:0")


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "intermediate_size"])
@pytest.mark.parametrize("seed", ["", "@random:0"])
def test_an_endless_encoder_is_refused(folder: Path, key: str, seed: str) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, key: 2**30}))
    assert not attempt(f"{folder}{seed}", str(folder), "config.json")


def test_weights_of_any_bytes(folder: Path, counted) -> None:
    path, outcomes = folder / "model.safetensors", [0, 0]
    whole = path.read_bytes()

    @settings(max_examples=EXAMPLES * 2, database=None)
    @given(
        at=st.one_of(st.integers(0, 400), st.integers(0, len(whole) - 1)), raw=st.binary(max_size=9)
    )
    def change(at: int, raw: bytes) -> None:
        path.write_bytes(whole[:at] + raw + whole[at + len(raw) :])
        # Weights may say any number: extraction refuses features that are not finite.
        outcomes[attempt(str(folder), str(folder), finite=False)] += 1

    change()
    counted(file=path.name, loaded=outcomes[1], refused=outcomes[0])


@pytest.mark.parametrize("place", ["value", "key", "beside"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_does_not_run(folder: Path, name: str, zipped: bool, place: str) -> None:
    """In a transformers folder, and in the one file of wav2vec, vq-wav2vec and CNN14."""
    (folder / "model.safetensors").unlink()
    mark = folder / "ran"
    poison = Poison(mark)
    body = {
        "value": {"model": poison}, "key": {"args": {"activation": poison}},
        "beside": [torch.zeros(1), poison],
    }[place]  # fmt: skip
    path = folder / name
    torch.save(body, path) if zipped else path.write_bytes(pickle.dumps(body))
    requests = (
        [str(folder)] if name == PICKLES[0] else [f"{n}={path}" for n in ("wav2vec", "cnn14")]
    )
    for request in requests:
        assert not attempt(request, str(path))
    assert not mark.exists()


OPTIONS = {
    "conv_feature_layers": "[(8, 10, 5), (8, 8, 4)]", "conv_aggregator_layers": "[(8, 2, 1)]",
    "activation": "relu", "vq_type": "gumbel", "log_compression": True,
    "skip_connections_agg": True, "residual_scale": 0.5, "vq_groups": 2, "vq_vars": 4,
    "vq_depth": 1, "vq_dim": 0, "combine_groups": False,
}  # fmt: skip
TEXTS = st.sampled_from([
    "__import__('os').system('touch ran')", "[(512, 10, 5)] * 10**9", "[(1, 1, 1)] * 100 * 100",
    "[" * 3000, "(" * 90 + ")" * 90, "[(2**40, 1, 1)]", "[(10**9, 10**9, 1)]", "[(8, 0, 0)]",
    "[(8, 10, 5)]" + " + [(8, 10, 5)]" * 5000, "[(8, -1, 5)]", "1" * 5000, "[(8, 1e300, 1)]",
])  # fmt: skip


def test_the_options_of_a_native_checkpoint_say_anything(tmp_path: Path, counted) -> None:
    path, outcomes = tmp_path / "w.pt", [0, 0]

    @settings(max_examples=EXAMPLES, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=st.one_of(TEXTS, TEXTS, values))
    @example(pick=0, how="replace", new=[])  # no convolution at all
    @example(pick=1, how="replace", new="[(8, 2**30, 1)]")
    @example(pick=0, how="replace", new="[(8, 1, 1)] * 100 * 100 * 100 * 100")
    @example(pick=7, how="replace", new=0)
    @example(pick=0, how="replace", new=[[8, 10, 10**9999]])
    def change(pick: int, how: str, new: object) -> None:
        try:
            torch.save({"model": {}, "args": changed(OPTIONS, pick, how, new)}, path)
        except (RecursionError, UnicodeEncodeError):
            return
        outcomes[attempt(f"wav2vec={path}", path.name)] += 1

    change()
    assert not (tmp_path / "ran").exists()
    assert not Path("ran").exists()
    counted(file="wav2vec options", loaded=outcomes[1], refused=outcomes[0])


ODD = {
    "sparse": lambda weight: weight.to_sparse(),
    "nowhere": lambda weight: weight.to("meta"),
    "whole numbers": lambda weight: weight.to(torch.int32),
    "complex": lambda weight: weight.to(torch.complex64),
    "one value": lambda weight: torch.zeros(()).expand(weight.shape),
    "quantized": lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("ignore")  # torch says that some of these kinds are on their way out
def test_weights_that_are_no_plain_tensors(folder: Path, kind: str) -> None:
    """A pickle may hold them; a model made of them fails later, or takes memory without end."""
    state = load_file(folder / "model.safetensors")
    key = "feature_projection.projection.weight"
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert attempt(str(folder))
    torch.save({**state, key: ODD[kind](state[key])}, folder / "pytorch_model.bin")
    assert not attempt(str(folder), str(folder))


def test_an_encoder_that_this_machine_cannot_hold_is_refused(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(weights, "_memory", lambda: 2**10)
    with pytest.raises(UpstreamError, match="expected at most 256, which is what the memory of"):
        load_upstream(f"{folder}@random:0")


@pytest.mark.parametrize("options", [None, 3, [1], "cnn", {1, 2}])
def test_options_that_are_no_names_and_values(tmp_path: Path, options: object) -> None:
    torch.save({"model": {}, "args": options}, tmp_path / "w.pt")
    assert not attempt(f"wav2vec={tmp_path / 'w.pt'}", "w.pt")


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"\x80\x04.", b"\x80\x02}q\x00."])
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    for name in ("a.pt", "a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        try:
            assert read_content(tmp_path / name) == {}
        except UpstreamError as error:
            told(error, name)


def test_pipes_and_links_are_no_checkpoint(folder: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(folder / name, folder / "kept")
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert not attempt(str(folder), str(folder))
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")
        assert not attempt(str(folder), str(folder))
        (folder / name).unlink()
        (folder / "kept").rename(folder / name)
    assert attempt(str(folder))
