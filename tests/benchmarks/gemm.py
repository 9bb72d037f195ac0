"""Matrix products of the shapes that a Transformer has: ours, NumPy's (OpenBLAS) and PyTorch's (MKL), in GFLOP/s."""

from __future__ import annotations

import contextlib
import math
from typing import Any, NamedTuple

from . import harness, physical


class Product(NamedTuple):
    """A name, the group whose mean it counts in, shapes as they are in memory, and which of them are transposes."""

    name: str
    group: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    transposed: str = ""

    def flops(self) -> int:
        columns = self.b[-2] if "b" in self.transposed else self.b[-1]
        return 2 * math.prod(self.a) * columns


SMALL, LARGE, BATCHED = "d <= 128", "d >= 256", "batched"


def products(quick: bool) -> list[Product]:
    """X W forward, dY W^T and X^T dY backward; with batches, q k^T and p v."""
    chosen = []
    for d in (64, 512) if quick else (64, 128, 256, 512):
        group = SMALL if d <= 128 else LARGE
        for rows in (1024,) if quick else (1024, 4096):
            chosen.append(Product(f"X W {rows},{d},{d}", group, (rows, d), (d, d)))
        chosen += [
            Product(f"X W 1024,{d},{4 * d}", group, (1024, d), (d, 4 * d)),
            Product(f"X W 1024,{4 * d},{d}", group, (1024, 4 * d), (4 * d, d)),
            Product(f"X^T dY {d},1024,{d}", group, (1024, d), (1024, d), "a"),
            Product(f"X^T dY {d},1024,{4 * d}", group, (1024, d), (1024, 4 * d), "a"),
            Product(f"dY W^T 1024,{d},{d}", group, (1024, d), (d, d), "b"),
            Product(f"dY W^T 1024,{4 * d},{d}", group, (1024, 4 * d), (d, 4 * d), "b"),
        ]
    for length in (16, 64) if quick else (16, 32, 64):
        for size in (16, 64):
            q, p = (256, length, size), (256, length, length)
            chosen.append(Product(f"q k^T {length},{size}", BATCHED, q, q, "b"))
            chosen.append(Product(f"p v {length},{size}", BATCHED, p, q))
    return chosen


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = ("product M,K,N", "threads", "OpenBLAS", "MKL", "ours", "of the limit", "ours / OpenBLAS", "ours / MKL")
    table = report.table("Matrix products, GFLOP/s", *columns)
    means = report.table("Matrix products, geometric means", "group", "threads", "ours / OpenBLAS", "ours / MKL")
    for n in threads:
        with contextlib.ExitStack() as stack:
            names = {"numpy": "numpy_ops", "torch": "torch_ops", "ours": "ours_ops"}
            contenders: dict[str, Any] = {
                name: (stack.enter_context(harness.Contender(module, n)), {}) for name, module in names.items()
            }
            peak = stack.enter_context(physical.Machine(n)).flops()
            rows = [measure(product, n, contenders, peak, quick, table) for product in products(quick)]
        report.rows += rows
        for group in (SMALL, LARGE, BATCHED):
            ratios = [[row[f"to_{peer}"] for row in rows if row["group"] == group] for peer in ("numpy", "torch")]
            means.add(group, str(n), *(f"{harness.geometric_mean(r):.2f}" for r in ratios))
    table.notes.append("The peers write into a result that is already there; ours makes a new one at each call.")
    return report


def measure(
    product: Product, threads: int, contenders: dict[str, Any], peak: float, quick: bool, table: harness.Table
) -> dict[str, Any]:
    case = {"op": "product", "a": product.a, "b": product.b, "transposed": product.transposed}
    timings = harness.compare(case, contenders, rounds=5, patience=2 if quick else 4)
    gflop = product.flops() / 1e9
    ours = timings["ours"].median
    to = {f"to_{peer}": timings[peer].median / ours for peer in ("numpy", "torch")}
    of_limit = gflop * 1e9 / ours / peak
    rates = [timings[name].show_rate(gflop) for name in ("numpy", "torch", "ours")]
    table.add(product.name, str(threads), *rates, f"{of_limit:.0%}", *(f"{ratio:.2f}" for ratio in to.values()))
    row = {"product": product.name, "group": product.group, "threads": threads, "of_limit": of_limit}
    return row | to | harness.as_row(timings)


if __name__ == "__main__":
    harness.main(__doc__, run)
