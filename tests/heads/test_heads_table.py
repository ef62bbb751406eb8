from pathlib import Path

import ser_features.heads as package
from ser_features.heads.table import HEADS


def test_every_file_of_the_folder_is_in_the_table() -> None:
    folder = Path(package.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "table"}
    assert files == {head.module for head in HEADS.values()}


def test_every_head_says_what_it_reads_and_where_it_is_from() -> None:
    assert all(head.reads and head.description and head.source for head in HEADS.values())
