"""Where a store lies: a folder on a disk or below ``s3://``, and what differs between the two.

All other code of the store asks a ``Place`` and these functions; only here and in ``lock``,
``fetch`` and ``publish`` is anything done in two ways.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any, Protocol, TypeVar, cast

from ser_features.errors import StoreError, UsageError
from ser_features.files import MOST_BYTES, sealed_parts, sealed_text, size, write_atomic
from ser_features.fingerprint import file_sha256
from ser_features.records import Json
from ser_features.store.remote import SCHEME, ObjectPath, open_url

T = TypeVar("T")
R = TypeVar("R")
# A request to an object store is mostly waiting.
REQUESTS = 16


class Place(Protocol):
    """A file or folder of a store: ``pathlib.Path`` is one, and ``ObjectPath``."""

    @property
    def name(self) -> str:
        """The last part."""

    @property
    def parent(self) -> "Place":
        """The folder it lies in."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders down to the name."""

    def __truediv__(self, name: str, /) -> "Place": ...

    def __lt__(self, other: Any, /) -> bool: ...

    def __hash__(self) -> int: ...

    def relative_to(self, other: Any, /) -> PurePath:
        """The path below a folder."""

    def is_relative_to(self, other: Any, /) -> bool:
        """Whether it lies in a folder."""

    def exists(self) -> bool:
        """Whether there is a file, or a folder."""

    def is_dir(self) -> bool:
        """Whether it is a folder."""

    def is_symlink(self) -> bool:
        """Whether it is a link, which may lead anywhere."""

    def iterdir(self) -> "Iterable[Place]":
        """Files and folders right below."""

    def glob(self, pattern: str, /) -> "Iterable[Place]":
        """What a pattern finds."""

    def read_bytes(self) -> bytes:
        """All of a file; FileNotFoundError where there is none."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""


def open_root(text: str | Path) -> Place:
    """The place that a user names: a folder, or ``s3://BUCKET/FOLDER``.

    Raises UsageError for other addresses, StoreError where the package for it is not installed.
    """
    if isinstance(text, str) and text.lower().startswith(SCHEME):
        return open_url(SCHEME + text[len(SCHEME) :])
    if isinstance(text, str) and "://" in text:
        raise UsageError(f"a store lies in a folder or at {SCHEME}BUCKET/FOLDER, not elsewhere")
    return Path(text)


def address(place: Place) -> str:
    """What ``open_root`` gives the same place for, from any folder; it holds no credentials."""
    return str(place.absolute()) if isinstance(place, Path) else str(place)


def put(place: Place, data: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new; StoreError where it cannot."""
    if isinstance(place, Path):
        write_atomic(place, data)
    else:
        _tell(place, lambda: remote(place).put(data))


def put_sealed(place: Place, body: Json, *, compact: bool = False) -> None:
    """``put`` JSON together with a sha256 of it; ``compact`` on one line."""
    put(place, sealed_text(body, compact=compact))


def put_new_sealed(place: Place, body: Json) -> None:
    """``put_sealed``, compact, a file of which there is none.

    Raises StoreError where there is one with other content (on a disk the lock sees to that), and
    for what is too large to be read again.
    """
    parts = sealed_parts(body)
    if (num_bytes := sum(map(len, parts))) > MOST_BYTES:
        raise StoreError(
            f"{place} would take {size(num_bytes)}, and more than {size(MOST_BYTES)} could not be "
            "read again: extract a manifest of some of the utterances first, then all"
        )
    if isinstance(place, Path):
        write_atomic(place, parts)
    else:
        _tell(place, lambda: remote(place).put_new(b"".join(parts)))


def _tell(place: Place, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise StoreError(f"cannot write {place}: {error.strerror or error}") from error


def remote(place: Place) -> ObjectPath:
    """The same place, known to be an object store's."""
    return cast(ObjectPath, place)


def is_remote(place: Place) -> bool:
    """Whether requests over a network stand between us and it."""
    return not isinstance(place, Path)


def files_below(folder: Place) -> Iterator[Place]:
    """Every file below a folder, and every link there, which is not followed."""
    if not isinstance(folder, Path):
        yield from remote(folder).walk()
        return
    for root, subfolders, files in os.walk(folder):
        links = [name for name in subfolders if (Path(root) / name).is_symlink()]
        yield from (Path(root) / name for name in (*files, *links))


def size_of(place: Place) -> int:
    """Bytes of a file; of a link, not what it leads to."""
    if isinstance(place, Path):
        return place.stat(follow_symlinks=False).st_size
    return remote(place).size()


def sha256_of(place: Place) -> str:
    """Hash of a file's content."""
    if isinstance(place, Path):
        return file_sha256(place)
    return sha256(place.read_bytes()).hexdigest()


def side_by_side(place: Place, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``work`` of every item in order; several at a time where most of it is waiting."""
    if not is_remote(place):
        return [work(item) for item in items]
    with ThreadPoolExecutor(REQUESTS) as pool:
        return list(pool.map(work, items))
