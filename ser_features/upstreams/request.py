"""The text by which a user names an upstream, and the names made from it."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ser_features.errors import UpstreamError

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_TARGET = re.compile(rf"{_NAME}(/{_NAME})?")
_SEEDED = re.compile(r"(?P<target>.*)@random:(?P<seed>[0-9]+)", re.DOTALL)
_MAX_SEED = 2**63 - 1
GRAMMAR = (
    "NAME, NAME=FOLDER, NAME@random:SEED, NAME@random:SEED=FOLDER, a hub id ORG/NAME, "
    "or a folder such as ./FOLDER"
)


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A parsed request: ``target`` is a short name, a hub id or the text of a folder.

    ``path`` is the folder with the checkpoint (with a seed: only its architecture), ``seed`` asks
    for untrained weights.
    """

    target: str
    path: Path | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """The name in leaderboards: without the folder it came from."""
        base = self.target
        if self.is_folder:
            base = _folder(self.target).resolve().name or "folder"
        return base if self.seed is None else f"{base}@random:{self.seed}"

    @property
    def text(self) -> str:
        """The request in its one canonical spelling; parsing it gives this request again."""
        seed = "" if self.seed is None else f"@random:{self.seed}"
        folder = "" if self.path is None or self.is_folder else f"={self.path}"
        return f"{self.target}{seed}{folder}"

    @property
    def is_folder(self) -> bool:
        """Whether the target itself is a folder."""
        return looks_like_folder(self.target)


def parse_request(text: str) -> UpstreamRequest:
    """Read a request; UpstreamError naming the grammar where the text does not follow it.

    >>> parse_request("hubert-base@random:0").seed
    0
    >>> parse_request("whisper-base=/models/w").path
    PosixPath('/models/w')
    """
    if "\0" in text:
        raise UpstreamError(f"cannot read the upstream {text!r}; expected {GRAMMAR}")
    if looks_like_folder(text):
        target, seed = _split_seed(text)
        return UpstreamRequest(target, _folder(target), seed)
    head, equals, folder = text.partition("=")
    target, seed = _split_seed(head)
    if not _TARGET.fullmatch(target) or (equals and not folder.strip()):
        raise UpstreamError(f"cannot read the upstream {text!r}; expected {GRAMMAR}")
    return UpstreamRequest(target, _folder(folder) if equals else None, seed)


def looks_like_folder(text: str) -> bool:
    """Whether a request starts with a folder: ``/…``, ``./…``, ``../…``, ``~…``, ``a/b/c``."""
    head = text.partition("=")[0]
    return text.startswith(("/", ".", "~")) or head.count("/") > 1


def slug(name: str) -> str:
    """A name for one path component of a store; different names give different slugs.

    >>> slug("hubert-base@random:0")
    'hubert-base@random-0'
    >>> slug("facebook/hubert-base-ls960")
    'facebook-hubert-base-ls960-c872c2bd'
    """
    readable = name.replace("@random:", "@random-") if "@random-" not in name else name
    safe = re.sub(r"[^A-Za-z0-9._@-]+", "-", readable).strip("-.@")[:80]
    if safe == readable and "@random-" not in name:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def _folder(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UpstreamError(f"no home folder for the upstream {text!r}; write it out") from error


def _split_seed(text: str) -> tuple[str, int | None]:
    match = _SEEDED.fullmatch(text)
    if match is None:
        return text, None
    seed = int(match["seed"]) if len(match["seed"]) <= 19 else _MAX_SEED + 1
    if seed > _MAX_SEED:
        raise UpstreamError(f"the seed of {text!r} is too large; expected 0 … {_MAX_SEED}")
    return match["target"], seed
