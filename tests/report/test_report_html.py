import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from record_factory import make_record
from ser_features.leaderboard import build_rows
from ser_features.report.html import as_html

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
NASTY = "</script><script>document.title='owned'</script>\"><img onerror=\"document.title='x'\">"
AUDIT = {
    "leaks": ["speakers"],
    "dev_shares_speakers": True,
    "sentences": ["10 of 10 test speakers are in train (fold fold00)"],
    "shared": [
        {"fold": "fold00", "first": "train", "second": "test", "kind": "speakers", "count": 10,
         "total": 10, "examples": ["speaker00", NASTY]}
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    part = make_record("wavlm-base", 0.8, draw=9, seeds=(0, 1))
    records = [
        make_record("whisper-base", 0.9, seeds=(0, 1)),
        make_record("hubert-base", 0.88, draw=1, seeds=(0, 1), audit=AUDIT),
        make_record("fbank", 0.45, draw=2, num_layers=0),
        make_record("whisper-base@random:0", 0.4, draw=3, head="mlp"),
        replace(part, scores=part.scores[:7]),
        make_record(NASTY, 0.7, corpus="<script>", labels=(NASTY, "b"), head=NASTY, notes=(NASTY,)),
        *(make_record("whisper-base", 0.5 + i / 20, head="layers", layer=i) for i in range(7)),
    ]
    paths = [(Path("/results") / "javascript:alert(1)" / f"{i}.json",) for i in range(len(records))]
    return build_rows(records, paths, num_resamples=100)


@pytest.fixture(scope="module")
def html(rows):
    return as_html(rows, ["damaged <file>"])


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_it_is_self_contained(html):
    for tag, attributes in Elements(html).found:
        assert tag not in ("link", "iframe", "object", "embed", "img")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "file:///"))
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html


def test_names_stay_text(html):
    scripts = [tag for tag, _ in Elements(html).found if tag == "script"]
    assert len(scripts) == 1
    assert html.count("</script>") == 1
    assert not any(name.startswith("on") for _, attrs in Elements(html).found for name in attrs)
    assert "&lt;script&gt; · loso" in html


def test_links_to_records(rows):
    assert 'href="file:///results/javascript%3Aalert%281%29/0.json"' in as_html(rows)
    relative = as_html(rows, folder=Path("/results/javascript:alert(1)"))
    assert 'href="./0.json"' in relative
    above = as_html(rows, folder=Path("/results"))
    assert 'href="./javascript%3Aalert%281%29/0.json"' in above


def test_it_says_everything(html):
    for text in (
        "13 of 20 missing", "10 of 10 test speakers are in train (fold fold00)", "Layer weights",
        "Layer by layer", "Folds and seeds", "Cost", "Leak audit", "train ∩ test", "Confusion",
        "extract seconds", "gigabytes", "damaged &lt;file&gt;", "does not beat a baseline: ",
        "resamples 10 speakers",
    ):  # fmt: skip
        assert text in html


@pytest.mark.parametrize("audit", [{"sentences": 5, "shared": [1, {}]}, {"shared": "x"}])
def test_strange_audits_are_no_crash(audit):
    assert as_html(build_rows([make_record(audit=audit)], num_resamples=10))


def test_no_rows():
    assert "No results yet" in as_html([])


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM} (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(html, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    path.write_text(html)
    return path


@pytest.fixture
def open_page(browser, file):
    """Opens the page with the network blocked; fails on any request or console message."""
    trouble, contexts = [], []

    def block(route):
        if route.request.url == file.as_uri():
            route.continue_()
        else:
            trouble.append(route.request.url)
            route.abort()

    def opened(width=1280, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        context.route("**/*", block)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []


def names(page, section=0):
    table = page.locator("table.board").nth(section)
    return table.locator("tbody tr:visible td:first-child a").all_text_contents()


def board(page):
    """The place of the section of emodb."""
    return next(i for i, t in enumerate(page.locator("h2").all_text_contents()) if "emodb" in t)


def test_it_renders_without_a_network(open_page):
    page = open_page()
    assert page.title() == "serfeat leaderboard"
    assert page.locator("#count").text_content() == "6 of 6 rows"
    assert names(page, board(page))[0] == "whisper-base"
    assert page.locator("svg.curves polyline").count() == 1
    assert page.locator("h2").first.text_content().startswith("<script> · loso")


def test_sorting(open_page):
    page = open_page()
    at = board(page)
    before = names(page, at)
    header = page.locator("table.board").nth(at).locator("th")
    header.nth(2).click()
    assert header.nth(2).get_attribute("aria-sort") == "ascending"
    assert names(page, at) == before[::-1]
    header.nth(2).click()
    assert names(page, at) == before
    header.nth(0).click()
    assert names(page, at) == sorted(before)
    header.nth(0).press("Enter")
    assert names(page, at) == sorted(before, reverse=True)


def test_filtering(open_page):
    page = open_page()
    at = board(page)
    page.fill("#search", "WHISPER loso")
    assert names(page, at) == ["whisper-base", "whisper-base@random:0"]
    assert page.locator("#count").text_content() == "2 of 6 rows"
    page.select_option("#head", "mlp")
    assert names(page, at) == ["whisper-base@random:0"]
    page.fill("#search", "")
    page.select_option("#head", "")
    page.select_option("#mark", "leak")
    assert names(page, at) == ["hubert-base"]
    page.select_option("#mark", "!incomplete")
    assert "wavlm-base" not in names(page, at)
    assert page.locator("#count").text_content() == "5 of 6 rows"


def test_a_row_leads_to_its_details(open_page):
    page = open_page()
    page.locator("table.board").nth(board(page)).locator("tbody a").first.click()
    card = page.locator("details.card:target")
    page.locator("details.card:target[open]").wait_for()  # the page opens it after the click
    assert "Confusion" in card.text_content()
    assert '"upstream": "whisper-base"' in card.locator("pre").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_and_the_button(open_page, scheme):
    page = open_page(scheme=scheme)

    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    first = paper()
    assert (first == "rgb(255, 255, 255)") == (scheme == "light")
    page.click("#theme")
    assert paper() != first
    page.click("#theme")
    assert paper() == first


def test_readable_on_a_phone(open_page):
    page = open_page(390, "dark")
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    header = page.locator("table.board").nth(board(page)).locator("th:visible").all_text_contents()
    assert [each.split(" (")[0] for each in header] == ["upstream", "UAR %", "95 % CI", "marks"]
    assert len(page.screenshot()) > 10_000


def test_the_axis_of_a_curve_spans_the_weighted_sum_too():
    low = make_record("whisper-base", 0.3, draw=4)
    points = [make_record("whisper-base", 0.9, head="layers", layer=i) for i in range(3)]
    page = as_html(build_rows([low, *points], num_resamples=20))
    height = float(re.search(r'viewBox="-46 -14 \d+ (\d+)"', page)[1]) - 58
    (beside,) = re.findall(r'class="beside" x1="0" x2="\d+" y1="([\d.]+)"', page)
    assert 0 <= float(beside) <= height


def test_the_best_score_stands_out_beside_any_columns():
    page = as_html(build_rows([make_record("x", 0.9, augmentation="noise-10db")], num_resamples=20))
    assert ".best .uar {" in page
    row = re.search(r'<tr data-row [^>]*class="best">.*?</tr>', page, re.S)
    assert row is not None
    assert re.findall(r'<td class="number uar"[^>]*>([\d.]+)</td>', row[0])
