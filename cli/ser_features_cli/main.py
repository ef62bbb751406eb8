"""The command ``serfeat``: commands are thin, every one is one library call."""

import atexit
import gc
import inspect
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ser_features import __version__
from ser_features.errors import RejectsError, SerfeatError, UsageError
from ser_features_cli import (
    augment,
    bench,
    conditions,
    demo,
    extract,
    leaderboard,
    lists,
    rerun,
    resnet,
    store,
    study,
)
from ser_features_cli.console import INTERRUPTED, err

GRACE = 10.0  # seconds


class Commands(TyperGroup):
    """All commands: an interrupt ends each the same way, and says how to go on."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print(INTERRUPTED)
            raise typer.Exit(1) from None


app = typer.Typer(
    name="serfeat",
    cls=Commands,
    help=(
        "Run each frozen speech encoder once over a corpus, keep every layer, and compare "
        "upstreams for emotion recognition in minutes.\n\n"
        "Example: serfeat bench --corpus emodb=/data/emodb --upstreams fbank,hubert-base "
        "--protocol loso --store features --results results"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "extract": extract.extract,
    "bench": bench.bench,
    "pretrain": resnet.pretrain,
    "leaderboard": leaderboard.leaderboard,
    "rerun": rerun.rerun,
    "conditions": conditions.conditions,
    "study": study.study,
    "studies": study.studies,
    "demo": demo.demo,
    "upstreams": lists.upstreams,
    "corpora": lists.corpora,
    "heads": lists.heads,
    "augmentations": lists.augmentations,
    "protocols": lists.protocols,
}


def _help(command: Callable[..., None]) -> str:
    """A command's docstring; an example that goes on in the next line has one space there."""
    return re.sub(" {2,}", " ", inspect.cleandoc(command.__doc__ or ""))


for _name, _command in _COMMANDS.items():
    app.command(_name, help=_help(_command))(_command)
app.add_typer(augment.app, name="augment")
app.add_typer(store.app, name="store")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"serfeat {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version  # the callback has done its work


def run() -> None:
    """Run the command line: status 0 fine, 1 an error in one line, 2 usage, 3 rejects."""
    # At the end the collector would look through torch once more: a second of every command.
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows ASCII only gets "?"
            stream.reconfigure(errors="replace")
    try:
        with _interruptible():
            app(prog_name="serfeat")
    except (SerfeatError, OSError) as error:  # the system refused something: no bug of ours
        err.print(f"[bold red]error:[/] {_plain(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(_status(error))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and a batch system's SIGTERM end the work cleanly, and say how to go on.

    Where that hangs (a server or a disk that does not answer), the process ends hard after
    ``GRACE`` seconds: what is stored is made for that.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    hard = threading.Timer(GRACE, _leave)
    hard.daemon = True

    def interrupted(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # it runs already
            hard.start()
        signal.default_int_handler(number, frame)

    with suppress(ValueError):  # not the main thread
        for number in numbers:
            if before[number] != signal.SIG_IGN:  # a background job's
                signal.signal(number, interrupted)
    try:
        yield
    finally:
        hard.cancel()
        with suppress(ValueError, TypeError):
            for number in numbers:
                signal.signal(number, before[number])


def _leave() -> None:
    err.print(INTERRUPTED)
    os._exit(1)


def _status(error: Exception) -> int:
    if isinstance(error, UsageError):
        return 2
    return 3 if isinstance(error, RejectsError) else 1


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    run()
