"""Tables: what the instruments answer with. They print themselves in a terminal and in a notebook."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, overload

SHOWN = 60  # rows that are printed; all of them are there
WIDTH = 160


class Table(Sequence[Any]):
    """Rows of one kind, a NamedTuple, in an order; `where` and `sort` return new tables.

    >>> from typing import NamedTuple
    >>> class Row(NamedTuple):
    ...     path: str
    ...     norm: float
    >>> table = Table("norms", Row, [Row("encoder.0", 3.0), Row("decoder.0", 0.5), Row("decoder.1", 2.0)])
    >>> table.where("decoder.*").sort("norm")[0]
    Row(path='decoder.1', norm=2.0)
    >>> table.column("norm")
    [3.0, 0.5, 2.0]
    """

    def __init__(self, title: str, kind: Any, rows: Sequence[Any]) -> None:
        self.title, self.kind, self.rows = title, kind, list(rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self.kind._fields

    def column(self, name: str) -> list[Any]:
        """All of one column. Raises ValueError if there is none of this name."""
        return [row[self._position(name)] for row in self.rows]

    def where(self, pattern: str, column: str | None = None) -> Table:
        """The rows with a text that matches `pattern` as file names do (* ? [abc]), in any column, or in this one."""
        positions = range(len(self.columns)) if column is None else [self._position(column)]
        rows = [row for row in self.rows if any(fnmatchcase(str(row[i]), pattern) for i in positions)]
        return Table(self.title, self.kind, rows)

    def sort(self, column: str, descending: bool = True) -> Table:
        """The rows in the order of one column; those that have nothing there come last."""
        position = self._position(column)
        there = [row for row in self.rows if not _is_missing(row[position])]
        missing = [row for row in self.rows if _is_missing(row[position])]
        there.sort(key=lambda row: row[position], reverse=descending)
        return Table(self.title, self.kind, there + missing)

    def save(self, path: str | Path) -> Path:
        """Write a CSV file with all rows."""
        path = Path(path)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([self.columns, *self.rows])
        return path

    def _position(self, name: str) -> int:
        if name not in self.columns:
            near = get_close_matches(name, self.columns, n=1) or self.columns
            raise ValueError(f"Table: there is no column {name!r}. Try {', '.join(near)}.")
        return self.columns.index(name)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Table: ...
    def __getitem__(self, index: int | slice) -> Any:
        return Table(self.title, self.kind, self.rows[index]) if isinstance(index, slice) else self.rows[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __repr__(self) -> str:
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left", caption=self._left_out(), caption_justify="left")
        for position, name in enumerate(self.columns):
            is_text = any(isinstance(row[position], str) for row in self.rows)
            table.add_column(name, justify="left" if is_text else "right", overflow="fold")
        for row in self.rows[:SHOWN]:
            table.add_row(*map(shown, row))
        text = io.StringIO()
        # In a notebook Rich would, unless told not to, show the table there and then and write nothing.
        console = Console(file=text, width=WIDTH, highlight=False, markup=False, emoji=False, force_jupyter=False)
        console.print(table)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(shown(cell))}</td>' for cell in row)}</tr>" for row in self.rows[:SHOWN]
        )
        caption = html.escape(" ".join(filter(None, [self.title, self._left_out()])))
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>"

    def _left_out(self) -> str | None:
        if not self.rows:
            return "no rows"
        return f"and {len(self) - SHOWN} rows more" if len(self) > SHOWN else None


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def shown(cell: Any) -> str:
    """A cell as text: numbers with four digits, a dash for what is not there.

    >>> shown(0.00012345), shown(12), shown(None), shown((2, 3)), shown("x")
    ('0.0001234', '12', '-', '2x3', 'x')
    """
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    if isinstance(cell, tuple):
        return "x".join(map(str, cell)) or "()"
    return str(cell)
