"""The command line on ``--store s3://…``, and that no credential ever shows anywhere."""

import pytest

from cli_runner import good_corpus, process, serfeat
from s3_server import SECRET, TOKEN
from ser_features.store.verify import verify

PATIENCE = "1"  # seconds; see conftest
PLANTED = ("AKIAPLANTEDACCESSKEY", SECRET, TOKEN)


def test_the_whole_way_and_no_credential_anywhere(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("SERFEAT_S3_PATIENCE", "20")  # nothing fails here, on a busy machine either
    manifest = good_corpus(tmp_path / "corpus", takes=1).write()
    results, store = tmp_path / "results", ["--store", str(s3.root)]
    extract = ["extract", "--manifest", manifest, "--upstreams", "fbank", "--frames", *store]
    bench = ["bench", "--manifest", manifest, "--upstreams", "fbank", "--steps", 2, "--lr", "1e-2",
             "--results", results, *store]  # fmt: skip
    told = [serfeat(*extract), serfeat(*bench)]
    (record,) = results.rglob("fbank--*.json")
    told += [
        serfeat("rerun", record),
        serfeat("store", "ls", s3.root),
        serfeat("store", "info", "fbank", *store),
        serfeat("store", "verify", s3.root),
        serfeat("store", "export", "fbank", "--hdf5", tmp_path / "x.h5", *store),
    ]
    assert [done.status for done in told] == [0] * len(told), [done.err for done in told]
    assert f'"store": "{s3.root}"' in record.read_text()
    again = serfeat(*extract)
    assert "nothing new to extract" in again.err
    (name,) = [name for name in s3.content() if name.endswith("pooled/mean/c.0.0.0")]
    (s3.root / name).put((s3.root / name).read_bytes()[:-1])
    told += [again, serfeat("store", "verify", s3.root, "--repair")]
    assert "every byte is whole" in told[-1].err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    raw = [*s3.content().values(), *(path.read_bytes() for path in files)]
    raw += [(done.out + done.err).encode() for done in told]
    assert not [word for word in PLANTED for text in raw if word.encode() in text]


@pytest.mark.parametrize("kind", [403, 500])
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_refusal_is_one_line_without_what_the_server_echoes(s3, tmp_path, method, kind):
    manifest = good_corpus(tmp_path, speakers="a", takes=1).write()
    extract = ["extract", "--manifest", manifest, "--upstreams", "fbank", "--store", s3.root]
    if method == "GET":
        assert serfeat(*extract).status == 0
    s3.faults.add(method, "team/features", kind)
    commands = [extract, ["store", "ls", s3.root], ["store", "verify", s3.root]]
    for command in commands[: 1 if method == "PUT" else 3]:
        done = serfeat(*command)
        assert done.status == 1
        assert f"{s3.root}" in done.error
        assert f"the server answered {kind}" in done.error
        assert not [word for word in PLANTED if word in done.out + done.err]
    s3.faults.clear()
    assert serfeat(*extract).status == 0
    assert verify(s3.root).ok


def test_an_address_with_credentials_is_refused_and_not_repeated():
    for text in ("s3://AKIAX:hidden-thing@bucket/x", "s3://bucket/x?secret=hidden-thing"):
        for done in (
            process("store", "ls", text),
            serfeat("extract", "--manifest", "x.csv", "--upstreams", "fbank", "--store", text),
        ):
            assert done.status == 2
            assert "holds more than a bucket and a folder" in done.err
            assert "hidden-thing" not in done.out + done.err


def test_rejects_are_reported_in_the_store(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("SERFEAT_S3_PATIENCE", "20")
    corpus = good_corpus(tmp_path, speakers="a", takes=1)
    corpus.add("gone", "gone.wav")
    extract = ["extract", "--manifest", corpus.write(), "--upstreams", "fbank", "--store", s3.root]
    done = serfeat(*extract)
    assert done.status == 3
    assert f"{s3.root}/rejects" in done.err
    ((name, text),) = [item for item in s3.content().items() if item[0].startswith("rejects/")]
    assert name.endswith(".csv")
    assert b"\ngone," in text
    corpus.rows.pop()
    corpus.write()
    assert serfeat(*extract).status == 0
    assert not [name for name in s3.content() if name.startswith("rejects/")]
