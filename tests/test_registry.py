"""Tables refuse duplicates and help with misspelt names."""

import pytest

from ser_features.errors import UsageError
from ser_features.registry import Table, by_name


def test_duplicates_are_refused():
    with pytest.raises(ValueError, match="head 'a' is in the table twice"):
        Table("head", [("a", 1), ("a", 2)])


def test_an_unknown_name_gets_a_suggestion_and_the_list():
    table = by_name("protocol", ["loso", "session"], str)
    with pytest.raises(UsageError, match=r"unknown protocol 'losso'; did you mean 'loso'\? Known"):
        table["losso"]
    assert "losso" not in table
    assert list(table) == ["loso", "session"]
