import csv
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_features.corpora.files import _Files, read_manifest
from ser_features.errors import ManifestError
from ser_features.records import Json, Utterance

ROWS: list[dict[str, Json]] = [
    {"id": "u1", "path": "a b/ü.wav", "label": "joy", "speaker": "s1", "start": 0.5, "end": 2.0},
    {"id": "日本", "path": "/abs/x.flac", "label": "sad", "session": "1", "split": "dev"},
]
FIELDS = ["id", "path", "label", "speaker", "session", "split", "start", "end"]


def write(folder: Path, kind: str, rows: list[dict[str, Json]]) -> Path:
    path = folder / f"toy.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8"
        )
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_three_formats_say_the_same(tmp_path: Path, kind: str) -> None:
    rows = [dict.fromkeys(FIELDS) | row for row in ROWS] if kind == "parquet" else ROWS
    manifest = read_manifest(write(tmp_path, kind, rows))
    assert manifest.corpus == "toy"
    assert manifest.notes == ()
    assert manifest.utterances == (
        Utterance("u1", tmp_path / "a b/ü.wav", "joy", "s1", None, None, 0.5, 2.0),
        Utterance("日本", Path("/abs/x.flac"), "sad", None, "1", "dev"),
    )


def test_root_and_corpus_name(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, "csv", ROWS), root=Path("/data"), corpus="mine")
    assert manifest.corpus == "mine"
    assert [str(u.path) for u in manifest.utterances] == ["/data/a b/ü.wav", "/abs/x.flac"]


def test_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "toy.csv"
    text = b"\xef\xbb\xbfID, Path ,label\r\n\r\nu1, x.wav,joy\r\n\r\nu2,y.wav,sad\r\n"
    path.write_bytes(text)
    manifest = read_manifest(path)
    assert [(u.id, u.path.name) for u in manifest.utterances] == [("u1", " x.wav"), ("u2", "y.wav")]
    path.write_bytes(text.replace(b"joy", b"").replace(b"sad", b""))
    with pytest.raises(ManifestError) as info:
        read_manifest(path)
    assert info.value.problems == ("line 3: 'u1' has no label", "line 5: 'u2' has no label")


def test_line_numbers_after_a_cell_over_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "toy.csv"
    path.write_text('id,path,label,comment\na,x.wav,joy,"two\nlines"\nb,y.wav,,\n')
    with pytest.raises(ManifestError, match="line 4: 'b' has no label"):
        read_manifest(path)


def test_jsonl_line_separators_inside_a_string_end_no_line(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", [{"id": "a", "path": "x\u2028y.wav", "label": "joy"}])
    assert read_manifest(path).utterances[0].path.name == "x\u2028y.wav"


def test_whole_numbers_are_names(tmp_path: Path) -> None:
    row = {"id": 7, "path": "x.wav", "label": "joy", "speaker": 3}
    for kind in ("jsonl", "parquet"):
        first = read_manifest(write(tmp_path, kind, [row])).utterances[0]
        assert (first.id, first.speaker) == ("7", "3")


def test_unknown_columns_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "toy.csv"
    path.write_text("id,path,label,age,text\na,x.wav,joy,33,hello\n")
    assert read_manifest(path).notes == ("toy.csv: columns not used: age, text",)


def test_all_problems_of_a_csv_at_once(tmp_path: Path) -> None:
    path = tmp_path / "toy.csv"
    path.write_text(
        "id,path,label,split,start,end\n"
        "a,x.wav,joy,train,0,1\n"
        "a,,joy,test,x,1\n"
        ",z.wav,,valid,2,1\n"
        "b,v.wav,joy,dev,0,1,surplus\n"
        "c\n"
    )
    with pytest.raises(ManifestError, match=r"toy\.csv is not valid, 10 problem") as info:
        read_manifest(path)
    assert info.value.problems == (
        "line 3: start is 'x'; expected seconds, such as 1.25",
        "line 3: the path is empty",
        "line 5: 7 cells under 6 columns; is a comma not quoted?",
        "line 6: the path is empty",
        "line 4: the id is empty",
        "line 4: '' has no label",
        "line 4: split 'valid' is not known; expected one of train, dev, test",
        "line 4: end (1.0 s) is not after start (2.0 s)",
        "line 6: 'c' has no label",
        "id 'a' is there 2 times: line 2, line 3",
    )


def test_all_problems_of_a_jsonl_at_once(tmp_path: Path) -> None:
    path = tmp_path / "toy.jsonl"
    path.write_text(
        '{"id": "a", "path": "x.wav", "label": "joy", "start": true}\n'
        "not json\n"
        "[1, 2]\n"
        '{"id": ["b"], "path": 1.5, "label": "joy", "end": NaN}\n' + "[" * 100_000 + "\n"
    )
    with pytest.raises(ManifestError) as info:
        read_manifest(path)
    text = "\n".join(info.value.problems)
    for problem in (
        "line 1: start is 'True'; expected seconds, such as 1.25",
        "line 2: not JSON: Expecting value",
        "line 3: found '[1, 2]', expected a JSON object",
        "line 4: id is ['b']; expected text",
        "line 4: path is 1.5; expected text",
        "line 4: end is nan; expected seconds",
        "line 5: not JSON: ",
    ):
        assert problem in text


def test_parquet_rows_are_named(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "path": "x.wav", "label": "joy"},
        {"id": "a", "path": "y.wav", "label": None},
    ]
    with pytest.raises(ManifestError) as info:
        read_manifest(write(tmp_path, "parquet", rows))
    assert info.value.problems == (
        "row 2: 'a' has no label",
        "id 'a' is there 2 times: row 1, row 2",
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("toy.csv", b"", "no column 'id'; found none"),
        ("toy.csv", b"id;path;label\na;b;c\n", "no column 'path'; found 'id;path;label'"),
        ("toy.csv", b"id,path,emotion\n", "no column 'label'; found 'id', 'path', 'emotion'"),
        ("toy.csv", b"id,id,path,label\n", "column 'id' is there twice"),
        ("toy.csv", b"id,path,label\n", "there are no utterances"),
        ("toy.csv", b"id,path,label\na,\xfc.wav,joy\n", r"line 2: not UTF-8 \(byte 0xfc\)"),
        ("toy.csv", b'id,path,label\na,"x.wav,joy\n', "line 2: not CSV"),
        ("toy.jsonl", b"", "no column 'id'; found none"),
        ("toy.jsonl", b'{"id": "a", "file": "x", "label": "joy"}', "no column 'path'; found 'id'"),
        ("toy.parquet", b"PAR1 no", "is not a readable Parquet file"),
        ("toy.xlsx", b"", "a manifest is a folder or one of .csv, .jsonl, .parquet"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=message) as info:
        read_manifest(tmp_path / name)
    assert name in str(info.value)


def test_missing_and_unreadable_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="there is no manifest"):
        read_manifest(tmp_path / "none.csv")


def test_unreadable_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ser_features.corpora.files.read_whole", refuse)
    with pytest.raises(ManifestError, match=r"cannot read .*toy\.csv: Permission denied"):
        read_manifest(tmp_path / "toy.csv")


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["csv", "jsonl", "parquet"]))
def test_no_bytes_make_it_crash(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, kind: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz", numbered=True) / f"toy.{kind}"
    path.write_bytes((b"id,path,label\n" if kind == "csv" else b"") + raw)
    try:
        manifest = read_manifest(path)
    except ManifestError:
        return
    assert manifest.problems() == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2),
)


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, json_values)), max_size=5))
def test_any_json_rows_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Json]]
) -> None:
    path = write(tmp_path_factory.mktemp("fuzz", numbered=True), "jsonl", [])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        manifest = read_manifest(path)
    except ManifestError:
        return
    assert len(manifest) == len(rows)


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"),
    min_size=1,
    max_size=9,
).filter(lambda word: word == word.strip() and word)
times = st.none() | st.tuples(st.floats(0, 1e6), st.floats(0.001, 1e6))
utterances = st.lists(
    st.builds(
        lambda id, path, label, speaker, split, span: Utterance(
            id,
            Path("/root") / path.replace("/", "_"),
            label,
            speaker,
            None,
            split,
            *((span[0], span[0] + span[1]) if span else (None, None)),
        ),
        words, words, words, st.none() | words, st.sampled_from([None, "train", "test"]), times,
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda each: each.id,
)  # fmt: skip


@settings(deadline=None)
@given(utterances)
def test_csv_round_trip(tmp_path_factory: pytest.TempPathFactory, made: list[Utterance]) -> None:
    path = tmp_path_factory.mktemp("fuzz", numbered=True) / "toy.csv"
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(FIELDS)
    writer.writerows([[getattr(each, field) for field in FIELDS] for each in made])
    path.write_text(text.getvalue(), "utf-8", newline="")
    assert read_manifest(path).utterances == tuple(made)


@given(st.sampled_from([".", "/", "a", "/a/b", "../a"]), st.text("a./ \\ü", min_size=1, max_size=8))
def test_a_file_is_named_as_pathlib_names_it(base: str, text: str) -> None:
    files = _Files(Path(base))
    assert files[text] == files[text] == str(Path(base) / text)


@pytest.mark.parametrize("given_as", [str, Path])
def test_an_utterance_holds_the_text_of_its_path(given_as: type) -> None:
    made = Utterance("a", given_as("b/ü.wav"))
    assert made == Utterance("a", "b/ü.wav")
    assert type(made.file) is str
    assert made.path == Path("b/ü.wav")
