"""Figures as SVG text that stands alone: no script, no font file, no name that can break out."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

INK, FAINT = "#333333", "#dddddd"
COLOURS = (
    "#1f77b4", "#d6604d", "#2ca02c", "#9467bd", "#8c564b",
    "#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#ff7f0e",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Box:
    """A plotting area in SVG units, and the data range that it shows."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a data point lies."""
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return (
            round(self.left + self.width * across, 1),
            round(self.top + self.height * (1 - up), 1),
        )


def document(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """A whole SVG file on white ground; ``title`` is what a screen reader says."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img" '
            'font-family="Helvetica, Arial, sans-serif" font-size="11">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, **how: object) -> str:
    """Words at a place; ``anchor`` start, middle or end; ``fill``; ``size``; ``bold``; ``turn``."""
    turn = f' transform="rotate({how["turn"]} {x:g} {y:g})"' if "turn" in how else ""
    bold = ' font-weight="bold"' if how.get("bold") else ""
    size = f' font-size="{how["size"]}"' if "size" in how else ""
    anchor, fill = how.get("anchor", "start"), how.get("fill", INK)
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}"{size}{bold}{turn}>'
        f"{escape(words)}</text>"
    )


def line(start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> str:
    """A straight line."""
    (a, b), (c, d) = start, end
    return f'<line x1="{a:g}" y1="{b:g}" x2="{c:g}" y2="{d:g}" stroke="{colour}"/>'


def path(points: Sequence[tuple[float, float]], colour: str, fill: str = "none") -> str:
    """A polyline, closed where it is filled."""
    steps = " L".join(f"{x:g} {y:g}" for x, y in points)
    end = "" if fill == "none" else " Z"
    return (
        f'<path d="M{steps}{end}" fill="{fill}" fill-opacity="0.25" stroke="{colour}" '
        'stroke-width="1.6"/>'
    )


def rect(x: float, y: float, width: float, height: float, fill: str, about: str = "") -> str:
    """A filled rectangle; ``about`` shows when a pointer rests on it."""
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}"'
    return f"{shape}><title>{escape(about)}</title></rect>" if about else f"{shape}/>"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers inside a range.

    >>> ticks(0.0, 1.0)
    [0.0, 0.5, 1.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    rough = span / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def axes(box: Box, x_title: str = "", y_title: str = "", scale: float = 1.0) -> list[str]:
    """Frame, ticks and titles; numbers on the y axis are multiplied by ``scale`` (0: no axis)."""
    bottom = box.top + box.height
    parts = [
        line((box.left, bottom), (box.left + box.width, bottom)),
        line((box.left, box.top), (box.left, bottom)),
    ]
    for tick in ticks(*box.x):
        x, _ = box.at(tick, box.y[0])
        parts += [line((x, bottom), (x, bottom + 3)),
                  text(x, bottom + 14, f"{tick:g}", anchor="middle", size=10)]  # fmt: skip
    for tick in ticks(*box.y) if scale else ():
        _, y = box.at(box.x[0], tick)
        words = f"{scale * tick:g}"
        parts += [line((box.left, y), (box.left + box.width, y), FAINT),
                  text(box.left - 4, y + 3, words, anchor="end", size=10)]  # fmt: skip
    middle = box.left + box.width / 2
    if x_title:
        parts.append(text(middle, bottom + 28, x_title, anchor="middle"))
    if y_title:
        y = box.top + box.height / 2
        parts.append(text(box.left - 32, y, y_title, anchor="middle", turn=-90))
    return parts


def legend(x: float, y: float, names: Sequence[str]) -> list[str]:
    """Coloured names below each other."""
    return [
        part
        for i, name in enumerate(names)
        for part in (
            rect(x, y + 15 * i - 8, 10, 10, COLOURS[i % len(COLOURS)]),
            text(x + 14, y + 15 * i + 1, name),
        )
    ]


def ink_on(fill: str) -> str:
    """White or the ink of all words, whichever stands out more from a fill (WCAG 2's contrast).

    >>> ink_on("#8cb0d4"), ink_on("#2166ac")
    ('#333333', '#ffffff')
    """
    light = _luminance(fill) + 0.05
    return "#ffffff" if 1.05 / light > light / (_luminance(INK) + 0.05) else INK


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def shade(value: float, limit: float, *, diverging: bool) -> str:
    """A colour for a value of 0…limit (white to blue), or -limit…limit (red, white, green)."""
    strength = 0.0 if not limit else max(-1.0, min(1.0, value / limit))
    end = (33, 102, 172) if not diverging else (27, 120, 55) if strength > 0 else (178, 24, 43)
    red, green, blue = (round(255 + (c - 255) * abs(strength) * 0.85) for c in end)
    return f"#{red:02x}{green:02x}{blue:02x}"
