"""Every error a user can meet: one line that says what was found, what was expected, what to do."""

from collections.abc import Sequence


class SerfeatError(Exception):
    """The base of all errors that the command line prints as one line (exit status 1)."""


class UsageError(SerfeatError):
    """The command was called wrongly (exit status 2)."""


class RejectsError(SerfeatError):
    """Some utterances were rejected and the caller did not allow it (exit status 3)."""


class ManifestError(SerfeatError):
    """A manifest or corpus folder is not valid.

    ``problems`` holds every problem found, not only the first.
    """

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        shown = [f"  - {problem}" for problem in self.problems[:20]]
        if len(self.problems) > 20:
            shown.append(f"  … and {len(self.problems) - 20} more")
        super().__init__("\n".join([summary, *shown]))


class AudioError(SerfeatError):
    """One utterance's audio cannot be used; ``reason`` is a short code such as ``missing``."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class UpstreamError(SerfeatError):
    """An upstream cannot be found, loaded or trusted."""


class WorkerError(SerfeatError):
    """The processes or machines of an extraction cannot start, or keep dying."""


class StoreError(SerfeatError):
    """A feature store cannot be read or written."""


class StoreLockedError(StoreError):
    """Another process is writing this feature set."""


class UnreachableError(StoreError):
    """A store elsewhere gave no answer, or refused: what it holds is not known, so not damaged."""


class NewerError(StoreError):
    """A newer version of serfeat wrote this: not damaged, and nothing for this one to change."""


class DamageError(StoreError):
    """Stored bytes do not match their checksum."""


class ProtocolError(SerfeatError):
    """An evaluation protocol cannot be applied to this corpus."""


class TrainError(SerfeatError):
    """A head cannot be trained on what was given."""


class ResultsError(SerfeatError):
    """A run record cannot be read or written."""
