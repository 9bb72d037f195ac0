"""What the softmax oscilloscope measured: arrays of rows, tables of heads, distributions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from html import escape
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
STATISTICS = ("entropy", "normalised_entropy", "max_p", "jacobian", "gain", "row_gradient")
SUMMARIES: dict[str, Callable[[Array], Any]] = {
    "mean": np.mean,
    "median": np.median,
    "q05": lambda values: np.quantile(values, 0.05),
    "q25": lambda values: np.quantile(values, 0.25),
    "q75": lambda values: np.quantile(values, 0.75),
    "q95": lambda values: np.quantile(values, 0.95),
}
REASONS = ("no key", "one key", "not finite", "no gradient")  # for which a row is left out
COUNTS = ("measured", "left_out")
COLUMNS = (*COUNTS, "dead", *[f"{statistic}.{summary}" for statistic in STATISTICS for summary in SUMMARIES])
SHOWN = 48  # heads in what is printed
PRINTED = {  # heading -> column
    "measured": "measured",
    "H/ln n": "normalised_entropy.median",
    "max p": "max_p.median",
    "|J|": "jacobian.median",
    "gain": "gain.median",
    "dead": "dead",
    "|dL/ds| mean": "row_gradient.mean",
    "median": "row_gradient.median",
}


@dataclass(frozen=True, eq=False)
class Rows:
    """Every row of one attention: arrays (B, H, T), NaN in rows that are left out.

    entropy: -sum p ln p, in nats; normalised_entropy: divided by ln of the number of legal keys, 1 for a uniform row;
    max_p: the largest weight; jacobian: the Frobenius norm of J = diag(p) - p p^T; gain: |J g| / |g| with g = dL/dp at
    the legal keys and J g = dL/ds; row_gradient: |dL/ds|; dead: boolean, gain below the threshold, False in rows that
    are left out; keys: how many keys are legal; left_out_because: "" in rows that are measured, else "no key",
    "one key", "not finite" or "no gradient" (g is 0 at all legal keys: L does not depend on the row, as with padding).
    """

    entropy: Array
    normalised_entropy: Array
    max_p: Array
    jacobian: Array
    gain: Array
    row_gradient: Array
    dead: Array
    keys: Array
    left_out_because: Array

    @classmethod
    def joined(cls, runs: list[Rows]) -> Rows:
        """The rows of several calls, one behind the other."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(run, name) for run in runs], axis=2) for name in names})

    @property
    def measured(self) -> Array:
        """Which rows are measured, (B, H, T) boolean."""
        return self.left_out_because == ""

    @property
    def left_out(self) -> dict[str, int]:
        """How many rows are left out, by reason."""
        counts = Counter(self.left_out_because.ravel().tolist())
        return {reason: counts[reason] for reason in REASONS}

    @property
    def nhead(self) -> int:
        """The number H of heads."""
        return self.keys.shape[1]


class ECDF(NamedTuple):
    """An empirical distribution: the share fractions[i] of the rows has a value of at most values[i]."""

    values: Array
    fractions: Array
    mean: float
    median: float


class Saturation(Mapping[str, Rows]):
    """The `Rows` of every attention by its path, in the order of the model; a model that is an attention has path "".

    threshold: a row is dead if its gain is below.
    """

    def __init__(self, rows: Mapping[str, Rows], threshold: float) -> None:
        self._rows = dict(rows)
        self.threshold = threshold

    def __getitem__(self, path: str) -> Rows:
        if path not in self._rows:
            near = get_close_matches(str(path), self._rows, n=3, cutoff=0.3) or list(self._rows)[:3]
            raise KeyError(f"Saturation: there is no attention {path!r}. Near: {', '.join(map(repr, near))}.")
        return self._rows[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def values_of(self, statistic: str, path: str, head: int | None = None) -> Array:
        """The values of a statistic in all measured rows of a head, or of all heads, of the attention at `path`: (n,).

        Raises ValueError if there is no such statistic, attention or head.
        """
        if statistic not in (*STATISTICS, "dead"):
            raise ValueError(f"Saturation: there is no statistic {statistic!r}; it must be {', '.join(STATISTICS)}.")
        if path not in self:
            near = get_close_matches(path, self, n=3, cutoff=0.3) or list(self)[:3]
            raise ValueError(f"Saturation: there is no attention {path!r}. Near: {', '.join(map(repr, near))}.")
        rows = self[path]
        if head is not None and not 0 <= head < rows.nhead:
            raise ValueError(f"Saturation: head is {head}; {path!r} has heads 0 to {rows.nhead - 1}.")
        heads = slice(None) if head is None else head
        return getattr(rows, statistic)[:, heads][rows.measured[:, heads]]

    def per_head(self, column: str) -> Array:
        """One number for every head: (attentions, heads), NaN where there is no such head or no row was measured.

        column: "measured" or "left_out", numbers of rows; "dead", the share of dead rows; or a statistic and how it is
        summed up, "entropy.mean", "row_gradient.median", "gain.q05" (a quantile: q05, q25, q75, q95).
        Raises ValueError for another column.
        """
        check_column(column)
        table = np.full((len(self), max((rows.nhead for rows in self.values()), default=0)), np.nan)
        for number, (path, rows) in enumerate(self.items()):
            for head in range(rows.nhead):
                table[number, head] = self._summary(column, path, head)
        return table

    def _summary(self, column: str, path: str, head: int) -> float:
        if column in COUNTS:
            return float(np.sum(self[path].measured[:, head] == (column == "measured")))
        statistic, _, summary = column.partition(".")
        values = self.values_of(statistic, path, head)
        return float(SUMMARIES[summary or "mean"](values)) if values.size else np.nan

    def table(self, sort: str | None = None, *, reverse: bool = False) -> list[dict[str, Any]]:
        """A record for every head: "attention" (its path), "head", and all columns that `per_head` knows.

        sort: by this column, or by "attention" or "head"; by default in the order of the model. NaN comes last.
        """
        columns = {column: self.per_head(column) for column in COLUMNS}
        table: list[dict[str, Any]] = [
            {"attention": path, "head": head} | {name: values[a, head].item() for name, values in columns.items()}
            for a, (path, rows) in enumerate(self.items())
            for head in range(rows.nhead)
        ]
        if sort is None:
            return table
        if sort not in ("attention", "head"):
            check_column(sort)
        last = [record for record in table if record[sort] != record[sort]]
        return sorted([r for r in table if r[sort] == r[sort]], key=lambda r: r[sort], reverse=reverse) + last

    def ecdf(self, path: str, head: int | None = None, statistic: str = "row_gradient") -> ECDF:
        """The distribution of a statistic over the measured rows of a head, or of all heads, of an attention.

        Where a few rows have all the gradient, the mean says that all is well and the median that nothing is.
        """
        values = np.sort(self.values_of(statistic, path, head))
        mean, median = (float(np.mean(values)), float(np.median(values))) if values.size else (np.nan, np.nan)
        return ECDF(values, np.arange(1, values.size + 1) / max(values.size, 1), mean, median)

    def _headline(self) -> str:
        left_out = {reason: sum(rows.left_out[reason] for rows in self.values()) for reason in REASONS}
        measured = sum(int(rows.measured.sum()) for rows in self.values())
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items() if number)
        return (
            f"Saturation: {counted(len(self), 'attention')}, {counted(measured, 'row')} measured"
            f"{f' ({reasons}: left out)' if reasons else ''}; dead: |J g| < {self.threshold:g} |g|; "
            "median over rows unless it says mean"
        )

    def _cells(self) -> list[list[str]]:
        columns = [self.per_head(column) for column in PRINTED.values()]
        heads = [(a, path, h) for a, (path, rows) in enumerate(self.items()) for h in range(rows.nhead)]
        return [
            ["attention", "head", *PRINTED],
            *[[path or "(the model)", str(h), *[f"{c[a, h]:.3g}" for c in columns]] for a, path, h in heads[:SHOWN]],
        ]

    def _rest(self) -> str:
        hidden = sum(rows.nhead for rows in self.values()) - SHOWN
        return f"... and {hidden} heads more: table() has all" if hidden > 0 else ""

    def __repr__(self) -> str:
        cells = self._cells()
        first, *widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join([path.ljust(first), *[cell.rjust(width) for cell, width in zip(row, widths, strict=True)]])
            for path, *row in cells
        ]
        return "\n".join(filter(None, [self._headline(), *lines, self._rest()]))

    def _repr_html_(self) -> str:
        head, *body = [[escape(cell) for cell in row] for row in self._cells()]
        rows = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body]
        return (
            f"<table><caption>{escape(self._headline())}</caption>"
            f"<thead><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table><p>{self._rest()}</p>"
        )


def check_column(column: str) -> None:
    """Raise a ValueError unless there is such a column."""
    if column not in COLUMNS:
        near = get_close_matches(column, COLUMNS, n=3, cutoff=0.3) or COLUMNS[:3]
        raise ValueError(f"Saturation: there is no column {column!r}. Near: {', '.join(near)}.")


def counted(number: int, thing: str) -> str:
    """A number of things.

    >>> counted(1, "step"), counted(1200, "step")
    ('1 step', '1,200 steps')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
