"""Where a checkpoint's files lie: a local folder, or the hub with its cache. No torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ser_features.errors import UpstreamError
from ser_features.files import read_whole
from ser_features.records import Json

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
INDEX = ".index.json"
SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"
_TIMEOUT = 10.0  # seconds; the hub client's own retries would take half a minute
_WEIGHTS = (SAFETENSORS, SAFETENSORS + INDEX, PICKLED, PICKLED + INDEX)


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """A checkpoint on this machine. ``origin`` is provenance: folder, or hub id and revision."""

    folder: Path
    config: Mapping[str, Json]
    preprocessor: Mapping[str, Json] | None
    weights: tuple[Path, ...]
    origin: Mapping[str, Json]

    @property
    def where(self) -> str:
        """Its configuration, for messages; the catalogue's name where that is not a file."""
        return str(self.origin.get("catalogue", self.folder / CONFIG))


def from_folder(
    folder: Path, *, weights: bool, origin: Mapping[str, Json] | None = None
) -> CheckpointFiles:
    """Read a checkpoint folder in the hub's form; without ``weights`` only its configuration.

    Raises UpstreamError naming the file that is missing, unreadable or not trusted.
    """
    if not folder.is_dir():
        raise UpstreamError(f"no checkpoint folder at {folder}; expected one with {CONFIG}")
    config = _read_json(folder / CONFIG)
    _refuse_code(folder / CONFIG, config)
    has_preprocessor = (folder / PREPROCESSOR).is_file()
    return CheckpointFiles(
        folder,
        config,
        _read_json(folder / PREPROCESSOR) if has_preprocessor else None,
        _weight_files(folder) if weights else (),
        origin or {"folder": str(folder.resolve())},
    )


def from_hub(hub_id: str, *, weights: bool) -> CheckpointFiles:
    """Download a checkpoint, or take it from the hub's cache where there is no network.

    Raises UpstreamError in one line that says how to pass a folder where it cannot be had.
    """
    info = ask_hub(hub_id)
    if info is None:
        return _from_cache(hub_id, weights=weights)
    present = {sibling.rfilename for sibling in info.siblings or ()}
    wanted = [name for name in (CONFIG, PREPROCESSOR) if name in present]
    first = next((name for name in _WEIGHTS if name in present), None)
    if weights and first is not None:
        wanted.append(first)
    paths = [_download(hub_id, name, info.sha) for name in wanted]
    if weights and first is not None and first.endswith(INDEX):
        for name in _indexed(paths[-1]):
            _download(hub_id, name, info.sha)
    if not paths:
        raise UpstreamError(f"{hub_id} on the hub has no {CONFIG}; expected a transformers model")
    origin = {"hub_id": hub_id, "revision": info.sha}
    return from_folder(paths[0].parent, weights=weights, origin=origin)


def ask_hub(hub_id: str) -> "ModelInfo | None":
    """The repository's files and commit, or None where the hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        return HfApi().model_info(hub_id, timeout=_TIMEOUT)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UpstreamError(
            f"the hub has no model {hub_id!r} that you may read; "
            f"check the name, or pass a folder: NAME=FOLDER ({_first_line(error)})"
        ) from error
    except HfHubHTTPError as error:
        raise UpstreamError(f"the hub refused {hub_id}: {_first_line(error)}") from error
    except Exception:  # the client's own network errors changed class between its versions
        return None


def _download(hub_id: str, name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, name, revision=revision, etag_timeout=_TIMEOUT))
    except Exception as error:
        raise UpstreamError(
            f"cannot download {name} of {hub_id}: {_first_line(error)}; "
            "try again, or pass a folder: NAME=FOLDER"
        ) from error


def _from_cache(hub_id: str, *, weights: bool) -> CheckpointFiles:
    from huggingface_hub import hf_hub_download

    try:
        folder = Path(hf_hub_download(hub_id, CONFIG, local_files_only=True)).parent
    except Exception as error:
        raise UpstreamError(
            f"cannot reach the hub for {hub_id} and its cache does not hold it whole; without a "
            f"network pass a folder: NAME=FOLDER with {CONFIG}, {PREPROCESSOR} and {SAFETENSORS}"
        ) from error
    try:
        origin = {"hub_id": hub_id, "revision": folder.name}
        return from_folder(folder, weights=weights, origin=origin)
    except UpstreamError as error:
        raise UpstreamError(
            f"cannot reach the hub for {hub_id}, and what its cache holds does not serve: {error}"
        ) from error


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The weights of a folder, safetensors first; the parts where an index names them."""
    for name in _WEIGHTS:
        path = folder / name
        if path.is_file():
            parts = _indexed(path) if name.endswith(INDEX) else (name,)
            missing = [part for part in parts if not (folder / part).is_file()]
            if missing:
                raise UpstreamError(f"{path} names {missing[0]}, which is not in {folder}")
            return tuple(folder / part for part in parts)
    raise UpstreamError(f"no weights in {folder}; expected one of {', '.join(_WEIGHTS)}")


def _indexed(index: Path) -> tuple[str, ...]:
    """The file names of a sharded checkpoint; only plain names of its own folder."""
    parts = _read_json(index).get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise UpstreamError(f"{index} has no 'weight_map' of keys to files")
    names = sorted({str(name) for name in parts.values()})
    suffix = Path(SAFETENSORS if SAFETENSORS in index.name else PICKLED).suffix
    for name in names:
        if Path(name).name != name or not name.endswith(suffix):
            raise UpstreamError(f"{index} names {name!r}; expected {suffix} files beside it")
    return tuple(names)


def _read_json(path: Path) -> dict[str, Json]:
    try:
        value = json.loads(read_whole(path))
    except FileNotFoundError:
        raise UpstreamError(f"no {path.name} in {path.parent}; expected a model folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UpstreamError(f"cannot read {path}: {error}; expected a JSON object") from error
    if not isinstance(value, dict):
        raise UpstreamError(f"{path} holds {type(value).__name__}; expected a JSON object")
    return value


def _refuse_code(path: Path, config: Mapping[str, Json]) -> None:
    if "auto_map" in config:
        raise UpstreamError(
            f"{path} asks for code of its own ('auto_map'), which is never run; use a checkpoint "
            "of a stock architecture, or remove 'auto_map' if this one is"
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
