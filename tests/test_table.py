"""Tables: rows that can be sorted, filtered, printed and saved."""

import csv
import math
from typing import NamedTuple

import pytest

from minigrad.trace import Table


class Row(NamedTuple):
    path: str
    norm: float | None
    shape: tuple[int, ...] = (2, 3)


ROWS = [Row("b.x", 2.0), Row("a.<y>", None), Row("b.z", 5.0), Row("c", math.nan), Row("d", -1.0)]


def table():
    return Table("norms", Row, ROWS)


def test_sorting_puts_what_is_missing_last():
    assert [row.path for row in table().sort("norm")] == ["b.z", "b.x", "d", "a.<y>", "c"]
    assert [row.path for row in table().sort("norm", descending=False)] == ["d", "b.x", "b.z", "a.<y>", "c"]
    assert [row.path for row in table()] == ["b.x", "a.<y>", "b.z", "c", "d"]


def test_filtering_looks_at_one_column_or_all():
    assert [row.path for row in table().where("b.*")] == ["b.x", "b.z"]
    assert len(table().where("b.*", "norm")) == 0
    assert len(table().where("5.0")) == 1


def test_columns_are_found_by_name():
    assert table().column("norm")[:3] == [2.0, None, 5.0]
    for use in (lambda t: t.column("nrom"), lambda t: t.sort("nrom"), lambda t: t.where("*", "nrom")):
        with pytest.raises(ValueError, match=r"Table: there is no column 'nrom'. Try norm."):
            use(table())


def test_it_is_a_sequence():
    assert (len(table()), table()[2], table()[-1].path) == (5, ROWS[2], "d")
    assert isinstance(table()[:2], Table)
    assert [*table()[:2]] == ROWS[:2]


def test_it_prints_what_it_holds_and_says_what_it_left_out():
    text = repr(table())
    assert all(part in text for part in ("norms", "path", "a.<y>", "5", "2x3", "-"))
    long = Table("many", Row, [Row(str(i), i) for i in range(100)])
    assert "and 40 rows more" in repr(long)
    assert "rows more" not in text
    assert "99" not in repr(long)


def test_in_a_notebook_it_is_a_table_with_nothing_unescaped():
    page = table()._repr_html_()
    assert page.count("<tr>") == 6
    assert "a.&lt;y&gt;" in page
    assert "<y>" not in page


def test_in_a_notebook_its_text_is_text(monkeypatch):
    expected = repr(table())
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert repr(table()) == expected
    assert "norms" in expected


def test_it_is_saved_whole(tmp_path):
    path = table().save(tmp_path / "t.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "norm", "shape"]
    assert (len(rows), rows[3][:2]) == (6, ["b.z", "5.0"])
