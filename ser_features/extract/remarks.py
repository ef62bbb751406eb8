"""What a user should read after an extraction: notes, duplicates and rejects, in sentences."""

from collections import Counter

from ser_features.extract.pipeline import Report

SHOWN = 5


def remarks(report: Report) -> list[str]:
    """One sentence for moved files, each kind of note and of reject, each group of same audio."""
    lines = []
    if report.num_moved:
        lines.append(
            f"note: {report.num_moved} stored utterances are in files that were moved or touched; "
            "their audio is the same"
        )
    for kind, count in Counter(note.kind for note in report.notes).items():
        example = next(note for note in report.notes if note.kind == kind)
        lines.append(f"note: {count} x {kind}, e.g. {example.path}: {example.detail}")
    for group in report.duplicates[:SHOWN]:
        more = f" and {len(group) - SHOWN} more" if len(group) > SHOWN else ""
        ids = ", ".join(group[:SHOWN])
        lines.append(f"note: the same audio under {len(group)} ids: {ids}{more}")
    if len(report.duplicates) > SHOWN:
        more_groups = len(report.duplicates) - SHOWN
        lines.append(f"note: {more_groups} more groups of ids with the same audio")
    for reason, count in Counter(reject.reason for reject in report.rejects).items():
        first = next(reject for reject in report.rejects if reject.reason == reason)
        lines.append(f"rejected: {count} x {reason}, e.g. {first.detail}")
    if report.rejects:
        lines.append(f"rejected: {len(report.rejects)} in all, listed in {report.reject_report}")
    return lines
