from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from resnet_factory import QUICK, started
from ser_features.errors import TrainError
from ser_features.train.checkpoint import (
    Header,
    check_init,
    check_options,
    check_writable,
    load_init,
    read_header,
    save_checkpoint,
)
from ser_features.train.resnet import ResNetRun, build_network
from ser_features.train.resnet_recipes import ResNetConfig

pytestmark = pytest.mark.usefixtures("thin_resnets")


def _header(run: ResNetRun, config: ResNetConfig) -> Header:
    return Header(
        config.head, run.network.shape, "f" * 64, "net", config.vad, config.frame_norm,
        ("a", "b"), {"epochs": config.epochs},
    )  # fmt: skip


def _checkpoint(path: Path, config: ResNetConfig = QUICK) -> ResNetRun:
    run = started(config)
    run.train_epoch(1)
    save_checkpoint(path, run.network, _header(run, config))
    return run


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "net.safetensors"
    run = _checkpoint(path)
    assert read_header(path) == _header(run, QUICK)
    for name, value in load_file(path).items():
        assert torch.equal(value, run.network.state_dict()[name])
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize(
    ("init_train", "new"), [("new", ("embedding.", "output.")), ("all", ("output.",))]
)
def test_init_keeps_what_it_says_and_trains_what_it_says(
    tmp_path: Path, init_train: str, new: tuple[str, ...]
) -> None:
    path = tmp_path / "net.safetensors"
    old = _checkpoint(path).network.state_dict()
    run = started(replace(QUICK, init=str(path), init_train=init_train))
    start = {k: v.clone() for k, v in run.network.state_dict().items()}
    for name, value in start.items():
        if not name.startswith(new):
            assert torch.equal(value, old[name])
    assert not torch.equal(start["output.weight"], old["output.weight"])
    run.train_epoch(1)
    moved = {k for k, v in run.network.state_dict().items() if not torch.equal(v, start[k])}
    frozen = {k for k in start if k.startswith(("body.", "pooling."))}
    assert {"output.weight", "embedding.0.weight"} <= moved
    assert (moved & frozen == set()) == (init_train == "new")


def test_new_layers_may_follow_another_pooling(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    _checkpoint(path, replace(QUICK, pooling="statistics"))
    config = replace(QUICK, pooling="attention", init=str(path), init_train="new")
    run = started(config)
    check_init(config, run.network.shape, "f" * 64, "net")
    trained = [n for n, p in run.network.named_parameters() if p.requires_grad]
    assert {n.partition(".")[0] for n in trained} == {"pooling", "embedding", "output"}
    everything = replace(config, init_train="all")
    with pytest.raises(TrainError, match="pooling 'statistics', not 'attention'"):
        check_init(everything, run.network.shape, "f" * 64, "net")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": "e" * 64}, "features 'ffffffffffff', not 'eeeeeeeeeeee'"),
        ({"upstream": "mfcc"}, "upstream 'net', not 'mfcc'"),
        ({"head": "resnet34-transfer"}, "head 'resnet34-copypaste', not 'resnet34-transfer'"),
        ({"vad": True}, "vad False, not True"),
        ({"frame_norm": "none"}, "frame_norm 'mean', not 'none'"),
        ({"bands": 9}, "bands 8, not 9"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "net.safetensors"
    shape = _checkpoint(path).network.shape
    names = {"head", "vad", "frame_norm"}
    config = replace(QUICK, init=str(path), **{k: v for k, v in change.items() if k in names})
    shape = replace(shape, bands=change.get("bands", shape.bands))
    features, upstream = change.get("features", "f" * 64), change.get("upstream", "net")
    with pytest.raises(TrainError, match=message):
        check_init(config, shape, features, upstream)


def test_what_does_not_fit_is_answered_with_options(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    _checkpoint(path)
    config = replace(QUICK, init=str(path), vad=True, frame_norm="none", head="resnet34-transfer")
    with pytest.raises(TrainError) as caught:
        check_options(config, "mfcc")
    assert str(caught.value).endswith(
        "; say --head resnet34-copypaste --upstream net --no-vad --frame-norm mean, or pretrain "
        "another with --head resnet34-transfer --upstream mfcc --vad --frame-norm none"
    )


def test_a_place_that_takes_no_checkpoint_is_named_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "net.safetensors"):
        with pytest.raises(TrainError, match=f"cannot write {path}"):
            check_writable(path)
    check_writable(tmp_path / "new" / "net.safetensors")
    assert list((tmp_path / "new").iterdir()) == []


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    run = _checkpoint(path)
    whole = path.read_bytes()
    for text in (whole[: len(whole) // 2], b"", b"PK\x03\x04 a pickle"):
        path.write_bytes(text)
        with pytest.raises(TrainError, match="cannot read the checkpoint"):
            read_header(path)
    with pytest.raises(TrainError, match="cannot read the checkpoint"):
        read_header(tmp_path / "missing")
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(TrainError, match="does not say that it is a ResNet-34 of serfeat"):
        read_header(path)
    header = _header(run, QUICK)
    for name, value in (("trained", "much"), ("features", 3), ("vad", None), ("classes", "ab")):
        save_checkpoint(path, run.network, replace(header, **{name: value}))
        with pytest.raises(TrainError, match=f"does not say .*'{name}'"):
            read_header(path)
    save_checkpoint(path, run.network, header)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    weights.pop("body.conv.weight")
    save_file(weights, path, metadata)
    with pytest.raises(TrainError, match="other weights than its header says"):
        load_init(build_network(header.shape, 0), path, "new")
    weights["body.conv.weight"] = torch.full((4, 1, 7, 7), torch.nan)
    save_file(weights, path, metadata)
    with pytest.raises(TrainError, match="weights that are not finite"):
        load_init(build_network(header.shape, 0), path, "new")
