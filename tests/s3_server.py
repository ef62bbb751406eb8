"""A real S3-speaking server: moto behind werkzeug on 127.0.0.1, with faults put in front of it.

moto 5.2.5 honours conditional puts (If-None-Match, If-Match) and ranges (test_s3_server.py checks
it over plain HTTP). Puts are let through one by one, so that a condition and its write are atomic,
as S3 promises.
"""

import logging
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

Environ = dict[str, Any]
SECRET = "planted-SECRET-key/0123456789"
TOKEN = "planted-session-TOKEN-9876543210"


@dataclass
class Fault:
    """What happens to the next ``times`` requests of this method and path.

    ``kind``: a status number; ``slow`` (the body stops half-way for a moment); ``truncate`` (half
    of the body, then the connection closes); ``cut`` (the connection closes when half of the
    request is read); ``mute`` (the request is done, but its answer never comes); ``call`` (``call``
    runs, then the connection closes and nothing was done).
    """

    method: str
    path: str
    kind: int | str
    times: int = 10**9
    call: Callable[[], None] = lambda: None
    seen: int = 0

    def hits(self, method: str, path: str) -> bool:
        return self.seen < self.times and method == self.method and bool(re.search(self.path, path))


@dataclass
class Faults:
    """WSGI middleware; also counts requests."""

    app: Any
    rules: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    puts: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self, method: str, path: str, kind: int | str, times: int = 10**9, **more: Any
    ) -> Fault:
        self.rules.append(Fault(method, path, kind, times, **more))
        return self.rules[-1]

    def clear(self) -> None:
        self.rules.clear()
        self.requests.clear()

    def __call__(self, environ: Environ, start: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path, environ.get("HTTP_RANGE", "")))
        rule = next((rule for rule in self.rules if rule.hits(method, path)), None)
        if rule is None:
            return self._pass(environ, start)
        rule.seen += 1
        if isinstance(rule.kind, int):
            return self._refuse(rule.kind, environ, start)
        return {"slow": self._half, "truncate": self._half, "cut": self._cut, "mute": self._mute,
                "call": self._call}[rule.kind](rule, environ, start)  # fmt: skip

    def _pass(self, environ: Environ, start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "PUT":
            return self.app(environ, start)
        with self.puts:
            return list(self.app(environ, start))

    def _refuse(self, status: int, environ: Environ, start: Any) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        code = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}[status]
        # A careless server: it says everything it was told.
        told = " ".join(f"{name}={value}" for name, value in environ.items() if "HTTP" in name)
        start(f"{status} {code}", [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>{told}</Message></Error>".encode()]

    def _half(self, rule: Fault, environ: Environ, start: Any) -> Iterator[bytes]:
        body = b"".join(self._pass(environ, start))
        yield body[: len(body) // 2]
        if rule.kind == "truncate":
            self._close(environ)
        time.sleep(0.3)
        yield body[len(body) // 2 :]

    def _cut(self, rule: Fault, environ: Environ, start: Any) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
        self._close(environ)
        return []

    def _mute(self, rule: Fault, environ: Environ, start: Any) -> Iterable[bytes]:
        list(self._pass(environ, start))
        self._close(environ)
        return []

    def _call(self, rule: Fault, environ: Environ, start: Any) -> Iterable[bytes]:
        rule.call()
        return self._cut(rule, environ, start)

    def _close(self, environ: Environ) -> None:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError


class Server:
    """One server for a test session; every test has a bucket of its own."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL + 1)
        self.faults = Faults(DomainDispatcherApplication(create_backend_app))
        self._server = make_server("127.0.0.1", 0, self.faults, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._buckets = 0

    def new_bucket(self) -> str:
        self._buckets += 1
        name = f"bucket-{self._buckets}"
        self.request("PUT", f"/{name}")
        return name

    def request(self, method: str, path: str, data: bytes = b"", **headers: str) -> Any:
        """A plain HTTP request; returns status, body and headers. moto checks no signature."""
        request = urllib.request.Request(self.url + path, data or None, method=method)
        credential = "AKIA/20260101/us-east-1/s3/aws4_request"
        signed = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"
        always = {"Authorization": signed, "Content-Type": "application/octet-stream"}
        for name, value in {**always, **headers}.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
