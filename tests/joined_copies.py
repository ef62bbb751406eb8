"""Corpora whose copies are joined with partners, runs over them, and what is stored of both."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from fake_upstream import (
    content_by_id,
    make_corpus,
    recording,
    run,
)
from hostile import sealed
from moved_files import LENGTHS, in_folder
from ser_features.manifest import Manifest
from ser_features.store.catalog import list_feature_sets
from ser_features.store.writer import StoreWriter
from stopped_runs import Stop, stopping

HOW: dict[str, Any] = {"augment": ("copypaste-n",)}
SHORT: dict[str, Any] = {"augment": ("copypaste-n:crop=0.1",), "max_seconds": 0.21}
TOO_LONG = 800  # samples more of u3, for that


def labelled(manifest: Manifest) -> Manifest:
    marked = tuple(structs.replace(each, label="neutral") for each in manifest.utterances)
    return replace(manifest, utterances=marked)


def corpus_in(folder: Path) -> Manifest:
    if not folder.exists():
        make_corpus(folder, LENGTHS)
    return labelled(in_folder(folder))


def values(store: Path, report: Any) -> dict[str, tuple[Any, ...]]:
    """What is stored of each utterance and what it was joined with, wherever the audio lay."""
    return {
        key: (count, source.audio_sha256, source.draw, source.partner.audio_sha256, *rest)
        for key, (count, source, *rest) in content_by_id(store, report.spec).items()
    }


def stopped(manifest: Manifest, store: Path, at: int, after: bool = False, **how: Any) -> None:
    """A run that stops at a write, or comes to its end before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreWriter, "write", stopping(at, after))
        with suppress(Stop):
            run(manifest, store, **HOW, **how)


def run_name(store: Path) -> str:
    """The name of the only feature set there is."""
    (only,) = list_feature_sets(store)
    return only.name


def change(manifest: Manifest, key: str, seed: int, more: int = 0) -> None:
    recording(manifest.by_id[key].path, LENGTHS[int(key[1])] + more, seed)


def plain(one: tuple[Any, ...]) -> tuple[Any, ...]:
    count, source, *rest = one
    return (count, source.audio_sha256, source.draw, source.partner.audio_sha256, *rest)


def spoil(store: Path, key: str) -> None:
    """Damage the object of one utterance's pooled means."""
    (index,) = [
        int(path.stem.rpartition("-")[2])
        for path in store.rglob("shard-*.json")
        if key in [one["id"] for one in json.loads(path.read_bytes())["body"]["sources"]]
    ]
    (victim,) = store.rglob(f"pooled/mean/c.{index}.0.0")
    victim.write_bytes(b"\0" * victim.stat().st_size)


def as_older(store: Path) -> None:
    """The store as a serfeat made it that did not record what was joined."""
    for path in store.rglob("shard-*.json"):
        body = json.loads(path.read_bytes())["body"]
        for source in body["sources"]:
            assert source.pop("partner")
        path.write_bytes(sealed(body))
