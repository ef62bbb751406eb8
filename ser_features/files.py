"""Files written whole or not at all, and JSON that carries its own checksum ("sealed")."""

import contextlib
import errno
import gc
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from ser_features.errors import DamageError, StoreError
from ser_features.fingerprint import fingerprint
from ser_features.records import Json

MOST_BYTES = 2**32
"""The largest file that is read whole: the plan of ten million utterances takes less."""
# What a system says that cannot flush folders (or lets nobody list this one): no failed write.
_NOT_POSSIBLE = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM}
_COMPACT = re.compile(rb'\{"sha256":"([0-9a-f]{64})","body":')


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the cycle collector from running, in every thread, while millions of records are made.

    They are in no cycles, and it would look at all of them again each time their number has grown
    by a quarter.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class Readable(Protocol):
    """What can be read whole: a ``Path``, or an object of a store elsewhere."""

    def read_bytes(self) -> bytes:
        """All of it; FileNotFoundError where it is not there."""


def write_atomic(path: Path, data: bytes | str | Sequence[bytes]) -> None:
    """Write ``path`` so that a reader sees the old content or the new, also after a crash.

    ``data`` may be in parts. Raises StoreError naming the path where the disk is full or the folder
    not writable.
    """
    parts = [data.encode()] if isinstance(data, str) else data
    parts = [parts] if isinstance(parts, bytes) else parts
    try:
        make_folder(path.parent)
        handle, name = staged(path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            name.replace(path)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def staged(path: Path) -> tuple[int, Path]:
    """An open handle and the name of a new file beside ``path``, to be renamed to it.

    The umask says who may read it; a file of ``tempfile`` would be its owner's alone.
    """
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), name


def remove_tree(path: Path) -> None:
    """Remove a folder, or what lies in its place: a link itself, a pipe without opening it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, so that their names survive a power cut."""
    made = []
    while not path.is_dir() and path != path.parent:
        made.append(path)
        path = path.parent
    for folder in reversed(made):
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable, where its file system can and lets us."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NOT_POSSIBLE:
            raise


def write_sealed(path: Path, body: Json, *, compact: bool = False) -> None:
    """Write JSON atomically together with a sha256 of it, as ``sealed_text`` does."""
    write_atomic(path, sealed_text(body, compact=compact))


def read_whole(path: Readable) -> bytes:
    """All bytes of a file; a pipe, a device or a file over ``MOST_BYTES`` is an OSError.

    A store from a stranger may hold a pipe, at which reading would wait for ever, or a link to a
    device that never ends.
    """
    if not isinstance(path, Path):
        return path.read_bytes()
    handle = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if status.st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        with open(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def read_sealed(path: Readable) -> Json:
    """The body of a sealed file; every byte of it is covered, white space too.

    Raises FileNotFoundError where there is none, DamageError where its checksum does not hold.
    """
    raw = read_whole(path)
    with _damage(path):
        text = _compact_body(raw)
        return _indented_body(raw) if text is None else _parsed(text)


def read_sealed_text(path: Readable) -> bytes:
    """The body of a sealed file as JSON, for a typed decoder; raises as ``read_sealed`` does."""
    raw = read_whole(path)
    with _damage(path):
        text = _compact_body(raw)
        if text is None:
            text = json.dumps(_indented_body(raw), ensure_ascii=False).encode()
        return text


@contextlib.contextmanager
def _damage(path: Readable) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamageError(
            f"{path} is damaged: its checksum does not hold; run 'serfeat store verify'"
        ) from None


def _compact_body(raw: bytes) -> bytes | None:
    """What a sealed file of one line holds, None where it is none of those.

    Raises ValueError where its checksum does not hold.
    """
    head = _COMPACT.match(raw)
    if head is None:
        return None
    text = memoryview(raw)[head.end() : -2]
    if raw[-2:] != b"}\n" or hashlib.sha256(text).hexdigest().encode() != head[1]:
        raise ValueError("checksum")
    return bytes(text)


def _indented_body(raw: bytes) -> Json:
    """What the other form holds; ValueError where its checksum does not hold."""
    body = _parsed(raw)["body"]
    if sealed_text(body) != raw:
        raise ValueError("checksum")
    return body


def _parsed(raw: bytes) -> Json:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(raw, parse_constant=refuse)


def sealed_text(body: Json, *, compact: bool = False) -> bytes:
    """The text of a sealed file with this body, in UTF-8.

    ``compact`` is one line, for what may hold a million utterances: ten times as fast. There a
    dataclass stands for the object of its fields, and a number that is not finite becomes null.
    """
    if compact:
        return b"".join(sealed_parts(body))
    sealed = {"sha256": fingerprint(body), "body": body}
    return (json.dumps(sealed, indent=1, ensure_ascii=False) + "\n").encode()


def sealed_parts(body: Json) -> tuple[bytes, ...]:
    """A compact ``sealed_text`` in parts: the largest need not be copied to be written."""
    # The hash is over these very bytes: reading need not write the text again to compare it.
    text = msgspec.json.encode(body)
    digest = hashlib.sha256(text).hexdigest().encode()
    return (b'{"sha256":"', digest, b'","body":', text, b"}\n")


def size(num_bytes: float) -> str:
    """A number of bytes for people, in powers of ten.

    >>> size(36_380), size(27_400_000), size(1.2e10)
    ('36.4 kB', '27.4 MB', '12.00 GB')
    """
    if num_bytes < 1e6:
        return f"{num_bytes / 1e3:.1f} kB"
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.2f} GB"
