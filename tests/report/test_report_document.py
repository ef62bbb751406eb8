"""Reports of studies: readable on a narrow screen, in both themes, and by a screen reader."""

import re

import pytest

from ser_features.report.document import Document, Figure, Grid, Words, as_html, as_markdown
from ser_features.report.figures import Square, heat_map
from ser_features.report.svg import INK, ink_on, shade


def contrast(first: str, second: str) -> float:
    """WCAG 2: 1 (none) to 21."""

    def luminance(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("diverging", [False, True])
def test_numbers_stand_out_from_every_shade(diverging: bool) -> None:
    for step in range(-20 if diverging else 0, 21):
        fill = shade(step / 20, 1.0, diverging=diverging)
        assert contrast(fill, ink_on(fill)) > 3.5, (step, fill)


def test_a_heat_map_takes_the_ink_that_stands_out() -> None:
    squares = [[Square(0.6, "60.0"), Square(1.0, "99.9"), Square(None, "")]]
    svg = heat_map("t", ["row"], ["a", "b", "c"], squares)
    assert f'fill="{INK}">60.0<' in svg
    assert 'fill="#ffffff">99.9<' in svg


def test_titles_of_wide_tables_wrap_and_name_them() -> None:
    grid = Grid("A <long> title", ("name", "score"), (("a|b", "1.0"),))
    other = Grid("Another", ("name",), (("c",),))
    figure = Figure("f", "<svg></svg>", "caption")
    page = Document("Study", (Words(("said",)), grid, figure, other))
    html = as_html(page)
    names = re.findall(r'<table class="grid" aria-labelledby="(\w+)">', html)
    assert len(set(names)) == 2
    above = r'<p class="title" id="(\w+)">([^<]*)</p>\s*<div class="scroll">'
    titles = dict(re.findall(above, html))
    assert [titles[name] for name in names] == ["A &lt;long&gt; title", "Another"]
    assert "| a\\|b | 1.0 |" in as_markdown(page)
