"""Checkpoints: what is trusted, what is missing, what is recorded."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ser_features.errors import UpstreamError
from ser_features.fingerprint import canonical_json, file_sha256
from ser_features.upstreams import weights
from ser_features.upstreams.load import load_upstream


@pytest.fixture
def features(noise):
    return lambda request: load_upstream(str(request)).encode(noise(2000)).hidden


def edit(folder, change):
    path = folder / "model.safetensors"
    state = change(load_file(path))
    path.unlink()
    save_file({key: weight.contiguous() for key, weight in state.items()}, path)


def edit_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("prefix", ["hubert.", ""])
@pytest.mark.parametrize("old", [True, False])
def test_keys_of_other_model_classes_load(folder, features, prefix, old):
    want = features(folder)
    new_names = ("parametrizations.weight.original0", "parametrizations.weight.original1")

    def rename(state):
        out = {"lm_head.weight": torch.zeros(3, 3), "project_q.bias": torch.zeros(2)}
        for key, weight in state.items():
            name = key
            for new, short in zip(new_names, ("weight_g", "weight_v"), strict=True):
                name = name.replace(new, short) if old else name
            out[prefix + name] = weight
        assert not old or any(key.endswith("weight_g") for key in out)
        return out

    edit(folder, rename)
    assert torch.equal(features(folder), want)


@pytest.mark.parametrize("prefix", ["model.encoder.", "encoder.", ""])
def test_whisper_prefixes_load(checkpoint, tmp_path, noise, prefix):
    origin = checkpoint("whisper").folder
    for path in origin.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    edit(tmp_path, lambda state: {prefix + key: weight for key, weight in state.items()})
    got, want = (load_upstream(str(x)).encode(noise(2000)).hidden for x in (tmp_path, origin))
    assert torch.equal(got, want)


def test_missing_weights_are_named(folder):
    gone = "encoder.layers.1.attention.q_proj.weight"
    edit(folder, lambda state: {k: w for k, w in state.items() if k != gone})
    with pytest.raises(UpstreamError, match=rf"lacks 1 of \d+ encoder weights: {gone};"):
        load_upstream(str(folder))


def test_a_checkpoint_of_something_else_is_an_error(folder):
    edit(folder, lambda state: {f"other.{k}": w for k, w in state.items()})
    with pytest.raises(UpstreamError, match=r"lacks (\d+) of \1 encoder weights: .* and \d+ more"):
        load_upstream(str(folder))


def test_weights_of_another_shape_are_named(folder):
    edit_json(folder / "config.json", intermediate_size=40)
    with pytest.raises(UpstreamError, match=r"intermediate_dense.weight \(48, 32\) for \(40, 32\)"):
        load_upstream(str(folder))


def test_pytorch_bin_loads(folder, features):
    want = features(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(features(folder), want)


class Poison:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_a_poisoned_checkpoint_is_refused_and_does_not_run(folder, plain_pickle):
    (folder / "model.safetensors").unlink()
    bad, mark = folder / "pytorch_model.bin", folder / "ran"
    body = {"encoder.layer_norm.weight": Poison(mark)}
    bad.write_bytes(pickle.dumps(body, protocol=2)) if plain_pickle else torch.save(body, bad)
    with pytest.raises(UpstreamError, match=r"refused to load .*pytorch_model\.bin") as caught:
        load_upstream(str(folder))
    assert "weights_only" not in str(caught.value)
    assert not mark.exists()


def test_damaged_safetensors_is_an_error(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UpstreamError, match=r"refused to load .*model\.safetensors"):
        load_upstream(str(folder))


@pytest.mark.parametrize("pickled", [True, False])
def test_sharded_checkpoints_load(folder, features, pickled):
    want = features(folder)
    path = folder / "model.safetensors"
    state = load_file(path)
    path.unlink()
    stem, suffix = ("pytorch_model", ".bin") if pickled else ("model", ".safetensors")
    names = [f"{stem}-0000{i}-of-00002{suffix}" for i in (1, 2)]
    keys = sorted(state)
    halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    weight_map = {}
    for name, half in zip(names, halves, strict=True):
        part = {key: state[key] for key in half}
        torch.save(part, folder / name) if pickled else save_file(part, folder / name)
        weight_map |= dict.fromkeys(half, name)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert torch.equal(features(folder), want)
    hashes = load_upstream(str(folder)).info.identity["weights"]["files"]
    assert hashes == sorted(file_sha256(folder / name) for name in names)
    (folder / names[1]).unlink()
    with pytest.raises(UpstreamError, match=names[1]):
        load_upstream(str(folder))


def test_an_index_cannot_point_outside(folder):
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/x.safetensors"}}))
    with pytest.raises(UpstreamError, match=r"expected \.safetensors files beside it"):
        load_upstream(str(folder))


def test_remote_code_is_refused(folder):
    edit_json(folder / "config.json", auto_map={"AutoModel": "evil.Model"})
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    with pytest.raises(UpstreamError, match="asks for code of its own"):
        load_upstream(str(folder))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "expected a JSON object"),
        ("[]", "holds list; expected a JSON object"),
        ('{"model_type": "bert"}', "model type 'bert'; supported: data2vec-audio, hubert, unisp"),
        ("{}", "model type None; supported"),
        ('{"model_type": "hubert", "hidden_size": "wide"}', "not a valid hubert"),
        ('{"model_type": "hubert", "num_attention_heads": 7}', "cannot be a hubert"),
    ],
)
@pytest.mark.parametrize("seed", ["", "@random:0"])
def test_bad_configs_are_clear_errors(folder, text, message, seed):
    (folder / "config.json").write_text(text)
    with pytest.raises(UpstreamError, match=message) as raised:
        load_upstream(f"{folder}{seed}")
    assert str(folder / "config.json") in str(raised.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"do_normalize": "false"}, "do_normalize is 'false'; expected true or false"),
        ({"do_normalize": None}, "do_normalize is 'None'; expected true or false"),
        ({"sampling_rate": "16k"}, "sampling_rate is '16k'; expected Hz"),
    ],
)
def test_a_preprocessor_that_says_something_else(folder, values, message):
    edit_json(folder / "preprocessor_config.json", **values)
    with pytest.raises(UpstreamError, match=rf"preprocessor_config\.json: {message}"):
        load_upstream(str(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"no config\.json in .*; expected a model folder"),
        ("model.safetensors", r"no weights in .*; expected one of model\.safetensors"),
        ("preprocessor_config.json", r"no preprocessor_config\.json in .*; copy|, so whether"),
    ],
)
def test_missing_files_are_named(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(UpstreamError, match=message):
        load_upstream(str(folder))


def test_other_bad_requests(folder):
    for request, message in {
        "hubert-bse": "did you mean 'hubert-base'",
        "./nowhere": "no checkpoint folder at nowhere",
        f"wavlm-base={folder}": "wavlm-base is wavlm, but .* is hubert",
    }.items():
        with pytest.raises(UpstreamError, match=message):
            load_upstream(request)
    with pytest.raises(UpstreamError, match="unknown precision 'float64'"):
        load_upstream("fbank", precision="float64")
    with pytest.raises(UpstreamError, match="cannot use the device 'tpux'"):
        load_upstream("fbank", device="tpux")


def test_identity_is_content_only(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("moved")
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    edit_json(other / "config.json", _name_or_path="elsewhere", transformers_version="1")
    first, second = load_upstream(str(folder)).info, load_upstream(f"mine={other}").info
    assert first.identity == second.identity
    assert (first.name, second.name) == (folder.name, "mine")
    text = canonical_json(first.identity)
    assert str(folder) not in text
    assert torch.__version__ not in text
    sha = file_sha256(folder / "model.safetensors")
    assert first.identity["weights"] == {"files": [sha]}
    assert first.provenance["files"] == {"model.safetensors": sha}
    assert first.provenance["folder"] == str(folder)
    edit_json(other / "preprocessor_config.json", do_normalize=False)
    assert load_upstream(str(other)).info.identity != first.identity


def test_untrained_is_deterministic_and_leaves_the_global_state(folder, noise):
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    first = load_upstream(f"x@random:7={folder}")
    assert torch.equal(torch.rand(3), want)
    second, third = (load_upstream(f"x@random:{seed}={folder}") for seed in (7, 8))
    waves = noise(3000)
    assert torch.equal(first.encode(waves).hidden, second.encode(waves).hidden)
    assert first.info.identity == second.info.identity
    assert first.info.identity["weights"]["random_seed"] == 7
    assert first.info.identity["weights"]["sha256"] != third.info.identity["weights"]["sha256"]
    assert not torch.equal(first.encode(waves).hidden, third.encode(waves).hidden)


def test_catalogue_architecture_is_that_of_the_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "whisper", "d_model": 384}')
    folder = load_upstream(f"x@random:0={tmp_path}").info
    named = load_upstream("whisper-tiny@random:0").info
    same = named.identity["architecture"] | {"encoder_layers": 4}
    assert named.identity["architecture"] == same
    assert folder.identity["architecture"]["d_model"] == 384


def test_a_catalogue_entry_is_named_where_it_is_too_large(monkeypatch):
    monkeypatch.setattr(weights, "_memory", lambda: 2**20)
    with pytest.raises(UpstreamError, match=r"^hubert-base asks for \d+ parameters; expected at"):
        load_upstream("hubert-base@random:0")


def test_frozen_and_in_evaluation_mode(folder):
    upstream = load_upstream(str(folder))
    assert not upstream._model.training
    assert not any(weight.requires_grad for weight in upstream._model.parameters())
