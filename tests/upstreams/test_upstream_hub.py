"""Checkpoints of the hub: what is asked of it, what its cache holds, what is said without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from ser_features.errors import UpstreamError
from ser_features.upstreams import native, source
from ser_features.upstreams.catalog import CATALOG
from ser_features.upstreams.load import load_upstream


@pytest.mark.parametrize("offline", ["0", "1"])
def test_without_a_network_one_line_says_what_to_do(offline, tmp_path):
    code = (
        "from ser_features.upstreams.load import load_upstream\n"
        "from ser_features.errors import UpstreamError\n"
        "try: load_upstream('facebook/hubert-base-ls960')\n"
        "except UpstreamError as error: print(error)"
    )
    # A name that no resolver knows stands for the missing network.
    env = {**os.environ, "HF_ENDPOINT": "https://hub.invalid", "HF_HUB_OFFLINE": offline}
    env |= {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "cache")}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=root, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert done.stdout.count("\n") == 1
    assert "pass a folder: NAME=FOLDER" in done.stdout
    assert not done.stderr


class FakeHub:
    """The hub's answers, served from a folder laid out as its cache."""

    def __init__(self, snapshot, monkeypatch, *, reachable=True):
        self.snapshot, self.reachable, self.asked = snapshot, reachable, []
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.download)

    def model_info(self, hub_id, timeout):
        assert timeout <= 10
        if not self.reachable:
            raise ConnectionError("no route")
        names = [path.name for path in self.snapshot.iterdir()]
        siblings = [huggingface_hub.hf_api.RepoSibling(rfilename=name) for name in names]
        sha = self.snapshot.name
        return huggingface_hub.ModelInfo(id=hub_id, sha=sha, siblings=[vars(s) for s in siblings])

    def download(self, hub_id, name, *, revision=None, etag_timeout=0, local_files_only=False):
        self.asked.append((name, revision))
        return str(self.snapshot / name)


@pytest.mark.parametrize("reachable", [True, False])
def test_hub_checkpoints_record_their_revision(folder, monkeypatch, reachable, tmp_path_factory):
    snapshot = tmp_path_factory.mktemp("hub") / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    (snapshot / "pytorch_model.bin").write_bytes(b"never asked for")
    hub = FakeHub(snapshot, monkeypatch, reachable=reachable)
    info = load_upstream("facebook/hubert-base-ls960").info
    assert info.provenance["hub_id"] == "facebook/hubert-base-ls960"
    assert info.provenance["revision"] == "abc123"
    assert info.identity == load_upstream(str(folder)).info.identity
    if reachable:
        names = {"config.json", "preprocessor_config.json", "model.safetensors"}
        assert {name for name, revision in hub.asked if revision == "abc123"} == names


def test_a_cache_that_does_not_serve_says_why(folder, monkeypatch):
    FakeHub(folder, monkeypatch, reachable=False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.X"}}))
    with pytest.raises(UpstreamError, match=r"cannot reach the hub for o/n, .*code of its own"):
        load_upstream("o/n")
    (folder / "config.json").unlink()
    with pytest.raises(UpstreamError, match=r"o/n, .*does not serve: no config\.json in"):
        load_upstream("o/n")


def test_an_unknown_hub_model_is_a_clear_error(monkeypatch):
    class Hub:
        def model_info(self, hub_id, timeout):
            raise huggingface_hub.errors.HFValidationError("bad id\nmore")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    with pytest.raises(UpstreamError, match=r"the hub has no model 'no/such' .*NAME=FOLDER"):
        source.from_hub("no/such", weights=True)


def test_a_file_of_the_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo: str, name: str, **how: object) -> str:
        asked.append(how)
        raise OSError("Retrying")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(native, "ask_hub", lambda hub_id: None)
    with pytest.raises(UpstreamError, match=r"the hub cannot be reached.*pass the file: wav2vec="):
        native._from_hub(CATALOG["wav2vec"])
    assert asked == [{"local_files_only": True}]
