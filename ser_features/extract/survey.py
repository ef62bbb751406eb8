"""What there is to do: which utterances are stored already, which are new, which cannot be used."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from ser_features.audio import check_length, load, num_samples_at, probe
from ser_features.errors import AudioError
from ser_features.extract.plan import PlanItem
from ser_features.extract.progress import Progress
from ser_features.extract.rejects import stat_of
from ser_features.records import Rejection, Source, Utterance
from ser_features.upstreams.protocol import Upstream


@dataclass
class Survey:
    """The utterances of a manifest, each in exactly one of the three."""

    present: list[Source] = field(default_factory=list)
    wanted: dict[str, PlanItem] = field(default_factory=dict)
    rejects: dict[str, Rejection] = field(default_factory=dict)


def survey(
    utterances: Iterable[Utterance],
    stored: Mapping[str, Source],
    known: Mapping[str, Rejection],
    upstream: Upstream,
    max_seconds: float | None,
    pool: Executor,
    progress: Progress,
) -> Survey:
    """Look at every utterance's file once, by its header only where it is new.

    ``stored`` is what the feature set holds by id, ``known`` the rejections that still stand. A
    file whose size or time changed is decoded: the same audio is not extracted again.
    """
    result = Survey(rejects=dict(known))
    rest = [u for u in utterances if u.id not in known]
    progress.start("reading headers", len(rest), "files")

    def look(utterance: Utterance) -> Source | PlanItem | Rejection:
        return _look(utterance, stored.get(utterance.id), upstream, max_seconds)

    for found in pool.map(look, rest, chunksize=1):
        progress.advance(1)
        if isinstance(found, Source):
            result.present.append(found)
        elif isinstance(found, PlanItem):
            result.wanted[found.id] = found
        else:
            result.rejects[found.id] = found
    return result


def source_of(utterance: Utterance, audio_sha256: str = "") -> Source:
    """Where an utterance's audio lies now, found from any folder; without a hash while planned."""
    stat = stat_of(utterance.path)
    path, cut = str(utterance.path.absolute()), (utterance.start, utterance.end)
    return Source(utterance.id, path, stat.size, stat.mtime_ns, audio_sha256, *cut)


def reject(utterance: Utterance, error: AudioError) -> Rejection:
    """The report's row for an utterance that cannot be used."""
    return Rejection(utterance.id, str(utterance.path), error.reason, str(error))


def _look(
    utterance: Utterance, source: Source | None, upstream: Upstream, max_seconds: float | None
) -> Source | PlanItem | Rejection:
    try:
        if source is not None and _unchanged(utterance, source, upstream.info.sample_rate):
            if max_seconds is not None:  # what is used must not depend on what is stored
                plan_item(utterance, upstream, max_seconds)
            return source
        return plan_item(utterance, upstream, max_seconds)
    except AudioError as error:
        return reject(utterance, error)


def _unchanged(utterance: Utterance, source: Source, rate: int) -> bool:
    # Size and time alone do not tell apart the files of an unpacked archive.
    if source_of(utterance, source.audio_sha256) == source:
        return True
    return load(utterance, rate).sha256 == source.audio_sha256


def plan_item(utterance: Utterance, upstream: Upstream, max_seconds: float | None) -> PlanItem:
    """An utterance's length in samples and frames, from its header. Raises AudioError."""
    info = upstream.info
    num_samples = num_samples_at(probe(utterance), info.sample_rate)
    limit = max_seconds if max_seconds is not None else info.max_seconds
    check_length(
        num_samples,
        info.receptive_field,
        limit,
        sample_rate=info.sample_rate,
        path=utterance.path,
    )
    return PlanItem(utterance.id, num_samples, upstream.num_frames(num_samples))
