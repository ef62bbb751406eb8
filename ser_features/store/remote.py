"""Objects behind ``s3://``, asked the few things that the store asks of a ``pathlib.Path``.

Credentials, region and endpoint come from where every S3 tool finds them: AWS_* variables, a
profile (through boto3), or the machine's own role. They are never part of a path, and no message
of the server is passed on but its status and error code.
"""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import total_ordering
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ser_features.errors import StoreError, UnreachableError, UsageError

if TYPE_CHECKING:
    from obstore.store import S3Store

Data = bytes | memoryview | str
SCHEME = "s3://"
# Seconds during which a request that the server refuses for the moment is repeated.
PATIENCE = "SERFEAT_S3_PATIENCE"
DEFAULT_PATIENCE = 180.0
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_STATUS = re.compile(r"status code: (\d{3}[^:\n]*)")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
# Any of these says by itself which credentials to use; without one, a profile may.
_OWN_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)


@dataclass(frozen=True, slots=True)
class Version:
    """One state of an object: ``tag`` changes with its content, ``modified`` is server time."""

    tag: str
    modified: datetime


@total_ordering
@dataclass(frozen=True, slots=True)
class ObjectPath:
    """An object or a folder of objects.

    Raises FileNotFoundError and FileExistsError as paths do, UnreachableError where the server
    cannot be asked or refuses.
    """

    bucket: str
    key: str
    client: "S3Store" = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __reduce__(self) -> tuple[Any, ...]:  # another process finds its own credentials
        return open_url, (str(self),)

    def __lt__(self, other: "ObjectPath") -> bool:
        return (self.bucket, self.key) < (other.bucket, other.key)

    def __truediv__(self, name: str) -> "ObjectPath":
        return self._at(f"{self.key}/{name}".lstrip("/"))

    def _at(self, key: str) -> "ObjectPath":
        return ObjectPath(self.bucket, key, self.client)

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        """The folder."""
        return self._at(self.key.rpartition("/")[0])

    @property
    def parts(self) -> tuple[str, ...]:
        """Bucket and folders down to the name."""
        return (self.bucket, *PurePosixPath(self.key).parts)

    def relative_to(self, other: "ObjectPath") -> PurePosixPath:
        """The path below a folder."""
        return PurePosixPath(self.bucket, self.key).relative_to(
            PurePosixPath(other.bucket, other.key)
        )

    def is_relative_to(self, other: "ObjectPath") -> bool:
        """Whether it lies in a folder."""
        return PurePosixPath(self.bucket, self.key).is_relative_to(
            PurePosixPath(other.bucket, other.key)
        )

    def exists(self) -> bool:
        """Whether there is an object, or any below."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is an object of exactly this name."""
        try:
            self.size()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether any object lies below; there are no empty folders."""
        return next(self.walk(), None) is not None

    def is_symlink(self) -> bool:
        """No object is a link."""
        return False

    def size(self) -> int:
        """Its bytes."""
        with self._told():
            return int(self.client.head(self.key)["size"])

    def read_bytes(self) -> bytes:
        """All of it."""
        with self._told():
            return bytes(self.client.get(self.key).bytes())

    def read_version(self) -> tuple[bytes, Version]:
        """All of it, and which version that is."""
        with self._told():
            found = self.client.get(self.key)
            meta = found.meta
            return bytes(found.bytes()), Version(str(meta["e_tag"]), meta["last_modified"])

    def read_tail(self, num_bytes: int) -> bytes:
        """Its last bytes; all where it has fewer."""
        with self._told():
            return bytes(
                self.client.get(self.key, options={"range": {"suffix": num_bytes}}).bytes()
            )

    def read_spans(self, spans: Sequence[tuple[int, int]]) -> list[Any]:
        """Several parts ``(start, end)``, asked for side by side."""
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        with self._told():
            return list(self.client.get_ranges(self.key, starts=starts, ends=ends, coalesce=0))

    def put(self, data: Data) -> None:
        """Give it this content, whole or not at all."""
        self._put(data, "overwrite")

    def put_new(self, data: Data) -> str:
        """Like ``put``, and FileExistsError where it has other content; returns its new tag.

        An answer that was lost makes the request come twice, so the same content is no error.
        """
        try:
            return self._put(data, "create")
        except FileExistsError:
            found, version = self.read_version()
            if found != _bytes(data):
                raise
            return version.tag

    def put_over(self, data: Data, tag: str) -> str:
        """Like ``put``, and FileExistsError where ``tag`` is no longer its version."""
        try:
            return self._put(data, {"e_tag": tag})
        except FileExistsError:
            found, version = self.read_version()
            if found != _bytes(data):
                raise
            return version.tag

    def _put(self, data: Data, mode: Any) -> str:
        with self._told():
            done = self.client.put(self.key, _bytes(data), mode=mode, use_multipart=False)
            return str(done["e_tag"])

    def touch_clock(self) -> datetime:
        """The server's time now, by writing a scrap object here and removing it."""
        self.put(b"what time is it?")
        try:
            with self._told():
                return self.client.head(self.key)["last_modified"]
        finally:
            self.unlink(missing_ok=True)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete it; object stores do not say whether it was there."""
        del missing_ok
        self.delete_all([self])

    def delete_all(self, paths: "Sequence[ObjectPath]") -> None:
        """Delete many objects of this bucket in few requests."""
        if paths:
            with self._told():
                self.client.delete([path.key for path in paths])

    def walk(self) -> "Iterator[ObjectPath]":
        """Every object below, in the order of their names."""
        with self._told():
            for page in self.client.list(f"{self.key}/" if self.key else None, chunk_size=1000):
                yield from (self._at(item["path"]) for item in page)

    def iterdir(self) -> "Iterator[ObjectPath]":
        """The objects and folders right below."""
        with self._told():
            found = self.client.list_with_delimiter(f"{self.key}/" if self.key else None)
        yield from (self._at(key) for key in found["common_prefixes"])
        yield from (self._at(item["path"]) for item in found["objects"])

    def glob(self, pattern: str) -> "Iterator[ObjectPath]":
        """What a pattern of names and ``*`` finds: one listing a star."""
        head, _, rest = pattern.partition("/")
        if "*" in head:
            found = [each for each in self.iterdir() if fnmatchcase(each.name, head)]
        else:
            found = [each for each in [self / head] if rest or each.is_file()]
        for each in found:
            yield from each.glob(rest) if rest else [each]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What went wrong in one short sentence, without the request or the server's page."""
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise FileExistsError(errno.EEXIST, "it was changed meanwhile", str(self)) from None
        except (FileNotFoundError, BaseError) as error:
            raise _explained(error, self) from None


def _bytes(data: Data) -> bytes | memoryview:
    return data.encode() if isinstance(data, str) else memoryview(data)


def _explained(error: Exception, path: ObjectPath) -> Exception:
    text = str(error)
    code, status = _CODE.search(text), _STATUS.search(text)
    if isinstance(error, FileNotFoundError) and not (code and code[1] == "NoSuchBucket"):
        return FileNotFoundError(errno.ENOENT, "there is no such object", str(path))
    if status is None:
        kind = "no answer in time" if "TimedOut" in text else "the connection failed"
        return UnreachableError(f"{path}: {kind} (see AWS_ENDPOINT_URL and {PATIENCE})")
    if status[1].startswith("416"):
        return OSError(errno.ERANGE, "the object ends before", str(path))
    if code and code[1] == "NoSuchBucket":
        return UnreachableError(f"{path}: there is no bucket {path.bucket!r}; make it first")
    reason = f"the server answered {status[1].strip()}" + (f" ({code[1]})" if code else "")
    if status[1][:3] in ("401", "403"):
        reason += "; check your AWS credentials and their rights to this bucket"
    return UnreachableError(f"{path}: {reason}")


def open_url(text: str) -> ObjectPath:
    """The folder that ``s3://BUCKET/FOLDER`` names; nothing is asked of the server yet.

    Raises UsageError where the address is not just that (credentials do not belong in it), and
    StoreError where obstore is not installed.
    """
    wanted = "expected s3://BUCKET/FOLDER; credentials and endpoint come from AWS_ACCESS_KEY_ID, "
    wanted += "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_ENDPOINT_URL or the machine's role"
    try:
        found = urlsplit(text)
    except ValueError:
        raise UsageError(f"this is not the address of a store; {wanted}") from None
    if found.query or found.fragment or "@" in found.netloc or ":" in found.netloc:
        raise UsageError(f"a store's address holds more than a bucket and a folder; {wanted}")
    parts = [part for part in found.path.split("/") if part]
    if not _BUCKET.fullmatch(found.netloc) or {".", ".."} & set(parts):
        raise UsageError(f"{text!r} is not the address of a store; {wanted}")
    return ObjectPath(found.netloc, "/".join(parts), _client(found.netloc))


def _client(bucket: str) -> "S3Store":
    if find_spec("obstore") is None:
        raise StoreError(
            "a store on s3:// needs the package obstore: pip install 'serfeat[s3]', or choose a "
            "folder on a disk"
        )
    from obstore.store import S3Store

    patience = timedelta(seconds=_patience())
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return S3Store(
        bucket,
        # Who asks for an http:// endpoint by name gets it; nothing falls back to it.
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": min(patience, timedelta(seconds=10)),
            "read_timeout": min(patience, timedelta(seconds=30)),
            "timeout": max(patience, timedelta(seconds=2)),
        },
        retry_config={"max_retries": 20, "retry_timeout": patience, "backoff": _backoff()},
        credential_provider=_profile(),
    )


def _backoff() -> Any:
    first, most = timedelta(seconds=0.1), timedelta(seconds=15)
    return {"init_backoff": first, "max_backoff": most, "base": 2}


def _patience() -> float:
    text = os.environ.get(PATIENCE, "")
    try:
        seconds = float(text or DEFAULT_PATIENCE)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise UsageError(f"{PATIENCE}={text!r}: expected seconds, as in {PATIENCE}=180")
    return seconds


def _profile() -> Any:
    """Credentials of the chosen or default profile, where nothing else gives any."""
    if any(os.environ.get(name) for name in _OWN_CREDENTIALS) or find_spec("boto3") is None:
        return None
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider(boto3.Session())
    except ValueError:  # no profile: obstore asks the machine's role
        return None
