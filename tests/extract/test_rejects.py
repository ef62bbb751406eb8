"""The report of rejected utterances is read back, and holds only while the file is the same."""

import os

from ser_features.extract.rejects import known_rejects, write_rejects
from ser_features.records import Rejection, Utterance


def test_a_rejection_holds_until_the_file_changes(tmp_path):
    audio, report = tmp_path / "ä b.wav", tmp_path / "rejects.csv"
    audio.write_bytes(b"x")
    utterance = Utterance("u,1", audio)
    row = Rejection("u,1", str(audio), "silent", 'all zero, "quoted"\nline')
    write_rejects(report, [row])
    assert known_rejects(report, [utterance]) == {"u,1": row}
    os.utime(audio, ns=(1, 1))
    assert known_rejects(report, [utterance]) == {}


def test_only_what_needs_decoding_is_remembered(tmp_path):
    audio, report = tmp_path / "a.wav", tmp_path / "rejects.csv"
    audio.write_bytes(b"x")
    write_rejects(report, [Rejection("a", str(audio), "too-long", "…")])
    assert known_rejects(report, [Utterance("a", audio)]) == {}


def test_a_report_that_is_gone_or_garbage_costs_only_another_try(tmp_path):
    report = tmp_path / "rejects.csv"
    assert known_rejects(report, [Utterance("a", tmp_path)]) == {}
    report.write_bytes(b"\xff\xfe\x00garbage")
    assert known_rejects(report, [Utterance("a", tmp_path)]) == {}


def test_no_rejects_leave_no_report(tmp_path):
    report = tmp_path / "rejects.csv"
    write_rejects(report, [Rejection("a", "p", "missing", "…")])
    write_rejects(report, [])
    assert not report.exists()


def test_a_folder_that_is_not_valid_unicode_is_no_crash(tmp_path):
    """A recording there is rejected in the end; so may be all of them."""
    audio, report = tmp_path / os.fsdecode(b"caf\xe9") / "a.wav", tmp_path / "rejects.csv"
    write_rejects(report, [Rejection("a", str(audio), "missing", "…")])
    assert r"caf\udce9/a.wav,missing" in report.read_text()
    assert known_rejects(report, [Utterance("a", audio)]) == {}
