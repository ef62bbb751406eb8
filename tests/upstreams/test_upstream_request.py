"""How upstreams are named."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ser_features.errors import UpstreamError
from ser_features.upstreams.request import UpstreamRequest, parse_request, slug

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
TARGETS = NAMES | st.tuples(NAMES, NAMES).map("/".join)
FOLDERS = st.lists(NAMES | st.just("a=b"), min_size=1, max_size=3).map(lambda x: "/" + "/".join(x))
SEEDS = st.none() | st.integers(0, 2**63 - 1)


@given(TARGETS, st.none() | FOLDERS, SEEDS)
def test_named_requests_come_back(target, folder, seed):
    request = UpstreamRequest(target, Path(folder) if folder else None, seed)
    assert parse_request(request.text) == request


@given(FOLDERS, SEEDS)
def test_folder_requests_come_back(folder, seed):
    request = parse_request(folder if seed is None else f"{folder}@random:{seed}")
    assert request == UpstreamRequest(folder, Path(folder), seed)
    assert parse_request(request.text) == request
    assert request.name.startswith(Path(folder).name)


@given(st.text())
def test_any_text_is_a_request_or_one_clear_error(text):
    try:
        request = parse_request(text)
    except UpstreamError:
        return
    assert parse_request(request.text) == request
    assert request.name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("fbank", "fbank"),
        ("hubert-base@random:007", "hubert-base@random:7"),
        ("whisper-base=/w/x", "whisper-base"),
        ("mine@random:1=/w/x", "mine@random:1"),
        ("facebook/hubert-base-ls960", "facebook/hubert-base-ls960"),
        ("/w/lr=1/model", "model"),
        ("runs/1/model", "model"),
    ],
)
def test_names(text, name):
    assert parse_request(text).name == name


@pytest.mark.parametrize(
    "text", ["", "=x", "a=", "a b", "a@random", "a@random:x", "a@random:-1", "a@main", "a/", "-a"]
)
def test_bad_requests_name_the_grammar(text):
    with pytest.raises(UpstreamError, match=r"NAME=FOLDER"):
        parse_request(text)


def test_a_seed_too_large_is_an_error():
    with pytest.raises(UpstreamError, match="too large"):
        parse_request(f"hubert-base@random:{2**63}")


@given(st.text(min_size=1))
def test_slugs_are_safe_path_components(name):
    made = slug(name)
    assert re.fullmatch(r"[A-Za-z0-9._@-]{1,90}", made)
    assert not made.startswith((".", "-"))


@given(st.text(max_size=20), st.text(max_size=20))
def test_slugs_do_not_collide(left, right):
    assume(left != right)
    assert slug(left) != slug(right)


@given(NAMES, SEEDS)
def test_short_names_stay_readable(name, seed):
    assume(name == name.strip("-."))
    request = UpstreamRequest(name, None, seed)
    assert slug(request.name) == (name if seed is None else f"{name}@random-{seed}")
