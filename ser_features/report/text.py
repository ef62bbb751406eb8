"""The leaderboard as JSON, CSV, Markdown and LaTeX text."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from ser_features.records import Json
from ser_features.report import cells
from ser_features.report.document import escape
from ser_features.rows import Row, row_json, to_json

_NESTED = ("fold_scores", "audit", "config", "provenance")
_NAMES = ("upstream", "augmentation", "strategy", "head", "settings")


def as_json(rows: Sequence[Row], problems: Sequence[str] = ()) -> str:
    """``{"schema": 1, "rows": [...]}`` with scores in 0…1; problems are not part of it."""
    return json.dumps(to_json(rows), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(rows: Sequence[Row], problems: Sequence[str] = ()) -> str:
    """One line a row, scores in 0…1; lists are joined by semicolons, nested parts left out.

    ``settings`` is what differs between rows of one name.
    """
    apart = cells.apart(rows)
    lines = [{**_flat(row_json(row)), "settings": apart(row)} for row in rows]
    names = [name for name in Row.__dataclass_fields__ if name not in _NESTED]
    names = [*(each for name in names for each in _ends(name)), "settings"]
    file = io.StringIO()
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def _ends(name: str) -> list[str]:
    return [f"{name}_low", f"{name}_high"] if name.endswith("_ci") else [name]


def _flat(row: Mapping[str, Json]) -> dict[str, Json]:
    flat: dict[str, Json] = {}
    for name, value in row.items():
        if name.endswith("_ci"):
            flat.update(zip(_ends(name), value or (None, None), strict=True))
        elif name not in _NESTED:
            flat[name] = _joined(value)
    return flat


def _joined(value: Json) -> Json:
    if isinstance(value, Mapping):
        return ";".join(f"{name}={item}" for name, item in value.items())
    if isinstance(value, list):
        nested = (" ".join(map(str, v)) if isinstance(v, list) else v for v in value)
        return ";".join("" if item is None else str(item) for item in nested)
    return value


def _columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Title -> cell of a human's table; percent."""
    columns: dict[str, Callable[[Row], str]] = {
        "upstream": lambda row: cells.clean(row.upstream),
        "augmentation": cells.augmentation,
        "strategy": cells.strategy,
        "head": lambda row: cells.clean(row.head),
        "settings": cells.apart(rows),
        "UAR": cells.uar,
        "95 % CI": cells.interval,
        "± folds / seeds": cells.spread,
        "WA": lambda row: cells.percent(row.wa),
        "macro-F1": lambda row: cells.percent(row.macro_f1),
        "weighted F1": lambda row: cells.percent(row.weighted_f1),
        "late UAR": cells.late,
        "layer weights": lambda row: cells.strip(row.layer_weights),
        "marks": cells.symbols,
    }
    optional = ("augmentation", "strategy", "settings", "late UAR", "layer weights", "marks")
    return {t: c for t, c in columns.items() if t not in optional or any(map(c, rows))}


def as_markdown(rows: Sequence[Row], problems: Sequence[str] = ()) -> str:
    """A table for each group, scores in percent, then remarks and the legend."""
    lines = []
    for section in cells.sections(rows):
        lines += [f"### {escape(section.title)}", ""]
        if section.rows:
            lines += [*_markdown_table(section.rows), ""]
        notes = [*map(cells.curve_line, section.curves), *cells.remark_lines(section.rows)]
        lines += [*(f"- {escape(note)}" for note in notes), *([""] if notes else [])]
    notes = [*cells.legend(rows), *(f"not used: {cells.clean(each)}" for each in problems)]
    lines += [f"- {escape(note)}" for note in notes]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(rows: Sequence[Row]) -> Iterable[str]:
    columns = _columns(rows)
    left = (*_NAMES, "layer weights", "marks")
    yield f"| {' | '.join(columns)} |"
    yield "|" + "|".join(" --- " if title in left else " ---: " for title in columns) + "|"
    for row in rows:
        texts = {title: escape(cell(row)) for title, cell in columns.items()}
        if "best" in row.marks:
            texts["UAR"] = f"**{texts['UAR']}**"
        yield f"| {' | '.join(texts.values())} |"


def as_latex(rows: Sequence[Row], problems: Sequence[str] = ()) -> str:
    """A booktabs ``tabular`` for each group, scores in percent, best and tied rows bold.

    Needs ``\\usepackage{booktabs}``; signs other than the marks are plain ASCII or escaped.
    """
    lines = ["% needs \\usepackage{booktabs}"]
    for section in cells.sections(rows):
        lines += [f"% {section.title}", *_latex_table(section.rows)]
        notes = [*map(cells.curve_line, section.curves), *cells.remark_lines(section.rows)]
        lines += [f"% {note}" for note in notes]
    notes = [*cells.legend(rows), *(f"not used: {cells.clean(each)}" for each in problems)]
    return "\n".join([*lines, *(f"% {note}" for note in notes)]) + "\n"


def _latex_table(rows: Sequence[Row]) -> Iterable[str]:
    columns = {title: c for title, c in _columns(rows).items() if title != "layer weights"}
    left = (*_NAMES, "marks")
    yield f"\\begin{{tabular}}{{{''.join('l' if t in left else 'r' for t in columns)}}}"
    yield "\\toprule"
    yield " & ".join(map(_latex, columns)) + " \\\\"
    yield "\\midrule"
    for row in rows:
        texts = {title: _latex(cell(row)) for title, cell in columns.items()}
        if "best" in row.marks:
            texts["UAR"] = f"\\textbf{{{texts['UAR']}}}"
        yield " & ".join(texts.values()) + " \\\\"
    yield from ("\\bottomrule", "\\end{tabular}")


_LATEX = {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "–": "--",
    "±": "$\\pm$",
    "★": "$\\star$",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def _latex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(_LATEX.get(c, c) for c in text)
