"""Items are given out once each, to this thread and its helpers, and no error is lost."""

import os
import threading
import time

import pytest

from ser_features.store.hands import WORTH, _pool, drain


@pytest.fixture(autouse=True)
def three_hands(monkeypatch):
    monkeypatch.setattr("ser_features.store.hands._num_hands", lambda: 3)


def test_each_item_is_given_out_once():
    seen = []
    meet = threading.Barrier(3, timeout=60)

    def work(items):
        meet.wait()  # all three are at it
        seen.extend(items)

    drain(work, range(1000), 10 * WORTH)
    assert sorted(seen) == list(range(1000))


def test_what_is_little_is_done_here():
    threads = set()
    drain(lambda items: threads.update((i, threading.get_ident()) for i in items), "abc", WORTH - 1)
    assert threads == {(letter, threading.get_ident()) for letter in "abc"}


def test_the_error_of_a_helper_is_raised_here():
    here = threading.get_ident()
    failed = threading.Event()

    def work(items):
        if threading.get_ident() != here:
            failed.set()
            raise ValueError("of a helper")
        assert failed.wait(60)
        list(items)

    with pytest.raises(ValueError, match="of a helper"):
        drain(work, range(10), 10 * WORTH)


def test_after_an_error_here_nothing_more_is_given_out():
    given, here = [], threading.get_ident()
    broken = threading.Event()

    def work(items):
        if threading.get_ident() == here:
            next(items)
            broken.set()
            raise ValueError("here")
        assert broken.wait(60)
        for item in items:
            given.append(item)
            time.sleep(0.001)

    with pytest.raises(ValueError, match="here"):
        drain(work, range(10**5), 10 * WORTH)
    assert len(given) < 10**5 - 1


def test_nobody_waits_for_helpers_that_are_busy(monkeypatch):
    monkeypatch.setattr("ser_features.store.hands.MOST_HANDS", 1)
    release = threading.Event()
    _pool.cache_clear()
    busy = _pool(os.getpid()).submit(release.wait, 60)
    seen = []
    drain(lambda items: seen.extend(items), range(100), 10 * WORTH)
    assert seen == list(range(100))
    assert not busy.done()
    release.set()
    _pool.cache_clear()
