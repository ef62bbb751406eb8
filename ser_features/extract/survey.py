"""What there is to do: which utterances are stored already, which are new, which cannot be used."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter

from msgspec import UNSET
from msgspec.structs import replace

from ser_features.audio import check_length, load, num_samples_at, probe
from ser_features.augment.augmented import Drawing, length_of, partner_of
from ser_features.augment.partners import partner_error
from ser_features.errors import AudioError
from ser_features.extract.plan import PlanItem
from ser_features.extract.progress import Progress
from ser_features.extract.rejects import DECODED, stat_of
from ser_features.files import uncollected
from ser_features.records import Rejection, Source, Utterance
from ser_features.upstreams.protocol import Upstream

# Utterances a task: a future for each of a million would be a million futures at once.
_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class Stored:
    """What a feature set holds, by id: what each utterance was made from.

    ``moved`` says where audio was found again (``find_moved``). ``stale`` are joined with audio of
    a partner that was replaced since, where no record says with what: a run has stopped between
    the two.
    """

    sources: Mapping[str, Source] = field(default_factory=dict)
    moved: Sequence[Mapping[str, Source]] = ()
    stale: Collection[str] = ()


def stored_in(
    generations: Sequence[Mapping[str, Source]], moved: Sequence[Mapping[str, Source]] = ()
) -> Stored:
    """What the generations of a feature set have brought, in their order; a later one counts."""
    sources = {key: source for present in generations for key, source in present.items()}
    known, stale = dict[str, Source](), set[str]()
    for present in generations if len(generations) > 1 else ():
        known |= present
        for key, source in present.items():
            if source.draw and sources[key] is source and _is_stale(source, known, sources):
                stale.add(key)
    return Stored(sources, moved, stale)


def _is_stale(source: Source, then: Mapping[str, Source], now: Mapping[str, Source]) -> bool:
    """Whether its partner had other audio when it was made than the partner has now.

    For what an older serfeat has joined: since then the record of the utterance says with what.
    """
    if isinstance(source.partner, Source):
        return False
    with suppress(AudioError):  # a damaged draw is told where the utterance is looked at
        name = partner_of(source.draw)
        if name is not None and name in then:
            return then[name].audio_sha256 != now[name].audio_sha256
    return False


@dataclass
class Survey:
    """The utterances of a manifest, each in exactly one of the first three.

    ``moved`` says where stored audio, or a partner's, was found that only decoding told to be the
    same.
    """

    present: list[Source] = field(default_factory=list)
    wanted: dict[str, PlanItem] = field(default_factory=dict)
    rejects: dict[str, Rejection] = field(default_factory=dict)
    moved: dict[str, Source] = field(default_factory=dict)

    def add(self, found: Source | PlanItem | Rejection) -> None:
        """Put one utterance where it belongs."""
        if isinstance(found, Source):
            self.present.append(found)
        elif isinstance(found, PlanItem):
            self.wanted[found.id] = found
        else:
            self.rejects[found.id] = found


def survey(
    utterances: Iterable[Utterance],
    stored: Stored,
    known: Mapping[str, Rejection],
    upstream: Upstream,
    max_seconds: float | None,
    pool: Executor,
    progress: Progress,
    drawing: Drawing | None = None,
) -> Survey:
    """Look at every utterance's file once, by its header only where it is new.

    ``stored`` is what the feature set holds, ``known`` the rejections that still stand. A file
    whose place, size or time is not known is decoded: the same audio is not extracted again.
    ``drawing`` draws the augmentation of what is new.
    """
    utterances = tuple(utterances)
    by_id = {utterance.id: utterance for utterance in utterances}
    result = Survey(rejects=dict(known))
    whereabouts = _Whereabouts(stored.sources, stored.moved, by_id, upstream.info.sample_rate)
    rest = [u for u in utterances if u.id not in known]
    progress.start("reading headers", len(rest), "files")

    def kept(utterance: Utterance) -> Source | None:
        source = stored.sources.get(utterance.id)
        if source is None or utterance.id in stored.stale:
            return None
        suits = drawing is None or drawing.suits(utterance, source.draw)
        return source if suits and whereabouts.hold(utterance, source) else None

    def look(utterance: Utterance) -> Source | PlanItem | Rejection:
        try:
            source = kept(utterance)
            if source is None:
                item = plan_item(utterance, upstream, max_seconds, drawing)
                _check_partner(item, known)
                return item
            if max_seconds is not None:  # what is used must not depend on what is stored
                plan_item(utterance, upstream, max_seconds, drawing, source.draw)
            return source
        except AudioError as error:
            return reject(utterance, error)

    parts = [rest[i : i + _TOGETHER] for i in range(0, len(rest), _TOGETHER)]
    for looked in pool.map(lambda part: [look(utterance) for utterance in part], parts):
        progress.advance(len(looked))
        for found in looked:
            result.add(found)
    again = whereabouts.found
    result.moved = {u.id: again[u.id] for u in utterances if u.id in again}
    return result


def _check_partner(item: PlanItem, known: Mapping[str, Rejection]) -> None:
    """AudioError where it is known that its partner cannot be decoded: no run tries that again."""
    name = partner_of(item.draw)
    found = None if name is None else known.get(name)
    if name is not None and found is not None and found.reason in DECODED - {"augmentation"}:
        raise partner_error(name, AudioError(found.reason, found.detail))


def source_of(utterance: Utterance, audio_sha256: str = "", draw: str = "") -> Source:
    """Where an utterance's audio lies now, found from any folder; without a hash while planned."""
    place = _place_of(utterance.file)
    return Source(utterance.id, *place, audio_sha256, utterance.start, utterance.end, draw)


@uncollected()
def planned_sources(utterances: Mapping[str, Utterance], items: Iterable[PlanItem]) -> list[Source]:
    """``source_of`` the utterance of every item before it is decoded, in the order of the ids.

    Cuts of one recording share a look. Items in the order of ``utterances`` take half the time:
    neighbours there are neighbours in memory and in the kernel's tables; so are ids mostly.
    """
    recordings: dict[str, tuple[str, int, int]] = {}
    found = list[Source]()
    for item in items:
        one = utterances[item.id]
        if one.start is None and one.end is None:
            text, size, mtime_ns = _place_of(one.file)
        elif (place := recordings.get(one.file)) is not None:
            text, size, mtime_ns = place
        else:
            text, size, mtime_ns = recordings[one.file] = _place_of(one.file)
        found.append(Source(one.id, text, size, mtime_ns, "", one.start, one.end, item.draw))
    found.sort(key=attrgetter("id"))
    return found


def _place_of(file: str) -> tuple[str, int, int]:
    """The absolute path of a file, its size and its time; -1 where it is not there."""
    if not file.startswith("/"):
        file = os.path.join(os.getcwd(), file)  # noqa: PTH109, PTH118  (Path: 5 times as long)
    size, mtime_ns = stat_of(file)
    return file, size, mtime_ns


def reject(utterance: Utterance, error: AudioError) -> Rejection:
    """The report's row for an utterance that cannot be used."""
    path, text = utterance.file, str(error)
    detail = text if text.startswith(path) else f"{path}: {text}"
    return Rejection(utterance.id, path, error.reason, detail)


@dataclass(frozen=True, slots=True)
class _Whereabouts:
    """Whether files still hold the audio that is stored; ``found`` is what decoding told of that.

    Several threads ask at once.
    """

    stored: Mapping[str, Source]
    moved: Sequence[Mapping[str, Source]]
    by_id: Mapping[str, Utterance]
    rate: int
    found: dict[str, Source] = field(default_factory=dict)

    def hold(self, utterance: Utterance, source: Source) -> bool:
        """Whether what is stored is still of this audio, and of its partner's where it has one."""
        return self._unchanged(utterance, source) and self._same_partner(source)

    def _same_partner(self, source: Source) -> bool:
        name = partner_of(source.draw)
        if name is None or name not in self.by_id:
            return True
        known, joined = self.stored.get(name), source.partner
        if isinstance(joined, Source):  # an older serfeat has not recorded it
            if known is None:
                known = joined
            elif known.audio_sha256 != joined.audio_sha256:
                known = replace(joined, path="")  # they disagree: only the audio itself can tell
        if known is None:
            return True
        try:
            return self._unchanged(self.by_id[name], known)
        except AudioError as error:
            raise partner_error(name, error) from error

    def _unchanged(self, utterance: Utterance, source: Source) -> bool:
        # Size and time alone do not tell apart the files of an unpacked archive.
        here = source_of(utterance, source.audio_sha256)
        if here == (replace(source, draw="", partner=UNSET) if source.draw else source):
            return True
        if any(one.get(here.id) == here for one in (self.found, *self.moved)):
            return True
        # Its place was read first: a file that changes while it is decoded is decoded again.
        if load(utterance, self.rate).sha256 != source.audio_sha256:
            return False
        self.found[here.id] = here
        return True


def plan_item(
    utterance: Utterance,
    upstream: Upstream,
    max_seconds: float | None,
    drawing: Drawing | None = None,
    drawn: str = "",
) -> PlanItem:
    """An utterance's length in samples and frames, from its header and its draw.

    A recorded draw is ``drawn``; else ``drawing`` draws one. Raises AudioError, also where the
    utterance could not be used without its augmentation.
    """
    rate = upstream.info.sample_rate
    num_samples = num_samples_at(probe(utterance), rate)
    _check(num_samples, utterance, upstream, max_seconds)
    if drawn:
        num_samples = length_of(drawn)
    elif drawing is not None:
        drawn, num_samples = drawing.draw(utterance, num_samples, rate)
    if drawn:
        _check(num_samples, utterance, upstream, max_seconds)
    return PlanItem(utterance.id, num_samples, upstream.num_frames(num_samples), drawn)


def _check(
    num_samples: int, utterance: Utterance, upstream: Upstream, max_seconds: float | None
) -> None:
    info = upstream.info
    limit = max_seconds if max_seconds is not None else info.max_seconds
    shortest, rate = info.receptive_field, info.sample_rate
    check_length(num_samples, shortest, limit, sample_rate=rate, path=utterance.path)
