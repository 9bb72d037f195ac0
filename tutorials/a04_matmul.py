# %% [markdown]
# # Engine 4. The product of two matrices, from three loops to the limit of the machine
#
# Most of the time of a Transformer goes into one formula. With $A$ of shape $(M, K)$ and $B$ of shape $(K, N)$:
#
# $$C_{ij} = \sum_{k} A_{ik} B_{kj}$$
#
# That is $MNK$ multiplications and as many additions, $2MNK$ **FLOP** (floating point operations), however it is
# written. $10^9$ of them in a second are 1 **GFLOP/s**. All numbers are float32, 4 bytes each.
#
# **Predict.** We write it six times, for one thread. By what factor do the fastest and the slowest differ?
#
# ## The smallest code
# Three loops; and NumPy's way without loops, all $MKN$ products at once, and then their sums over $k$.

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's own product on one thread, like all others here
from functools import partial
from timeit import repeat

import numpy as np
from numba import njit

from minigrad import draw, kernels
from minigrad.kernels.simd import VECTOR, fma, lanes, load, spread, store, total
from tutorials.lesson import claim, fast, show

kernels.set_num_threads(1)
compiled = njit(error_model="numpy", fastmath={"contract"})  # "contract": x * y + z may be one instruction


def python(a, b, c):
    """C = A B, number by number."""
    for i in range(len(a)):
        for j in range(b.shape[1]):
            c[i, j] = sum(a[i, k] * b[k, j] for k in range(len(b)))


def broadcast(a, b, c):
    """All M K N products at once, and then their sums."""
    (a[:, :, None] * b).sum(axis=1, out=c)


# %% [markdown]
# ## The order of the loops
# Numba compiles Python to machine code. `wrong` is the formula as one reads it. `right` has the same loops in another
# order: $k$ before $j$. A matrix lies in memory row by row, and memory comes in pieces of 64 bytes, 16 numbers of a
# row. `right` walks along rows and uses all 16. `wrong` walks down a column of $B$, and of each piece uses one number.


# %%
@compiled
def wrong(a, b, c):
    """For each number of C its sum over k: down the columns of B."""
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            s = np.float32(0)
            for k in range(b.shape[0]):
                s += a[i, k] * b[k, j]
            c[i, j] = s


@compiled
def right(a, b, c, block=1_000_000):
    """Each row of C as a sum of rows of B: for all of C first of `block` rows of B, then of the next ones."""
    c[:] = 0
    for top in range(0, b.shape[0], block):
        for i in range(c.shape[0]):
            for k in range(top, min(top + block, b.shape[0])):
                for j in range(c.shape[1]):
                    c[i, j] += a[i, k] * b[k, j]


# %% [markdown]
# A **cache** is a small, fast memory inside the processor that keeps what was used last. A `block` of $B$ that fits in
# there is fetched from far away once, not once for each row of $A$. Good advice; we shall see whether it helps.
#
# ## The registers
# Numbers are multiplied in **registers**, 16 or 32 places for a **vector** of $W = 4$ to 16 float32 each: SIMD, *single
# instruction, multiple data*. An **FMA** (fused multiply-add) does $c + ab$ for a whole vector. `right` gets a vector
# of B and one of C for *one* FMA, and writes C back. So let a **tile** of C, 4 rows and 3 vectors wide, stay in 12
# registers while $k$ runs: 3 vectors of B and 4 numbers of A are fetched for *12* FMAs. Compilers do not find this by
# themselves; we say it: `load` and `store` move a vector, `spread` puts one number into all places of one.


# %%
@compiled
def tile(a, b, c):
    """Tile by tile, each in the registers; C must have a multiple of 4 rows, and of three vectors of columns."""
    wide = lanes(c)  # numbers in a vector
    for j in range(0, c.shape[1], 3 * wide):
        for i in range(0, c.shape[0], 4):
            p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = r0 = r1 = r2 = r3 = spread(c, 0.0)
            for k in range(b.shape[0]):
                p, q, r = load(b[k], j), load(b[k], j + wide), load(b[k], j + 2 * wide)
                x0, x1 = spread(c, a[i, k]), spread(c, a[i + 1, k])
                x2, x3 = spread(c, a[i + 2, k]), spread(c, a[i + 3, k])
                p0, q0, r0 = fma(x0, p, p0), fma(x0, q, q0), fma(x0, r, r0)
                p1, q1, r1 = fma(x1, p, p1), fma(x1, q, q1), fma(x1, r, r1)
                p2, q2, r2 = fma(x2, p, p2), fma(x2, q, q2), fma(x2, r, r2)
                p3, q3, r3 = fma(x3, p, p3), fma(x3, q, q3), fma(x3, r, r3)
            for row, vectors in enumerate(((p0, q0, r0), (p1, q1, r1), (p2, q2, r2), (p3, q3, r3))):
                for column, vector in enumerate(vectors):
                    store(c[i + row], j + column * wide, vector)


# %% [markdown]
# `minigrad/kernels/gemm.py` has such a tile, up to 6 rows and 4 vectors, for matrices of any size and layout. NumPy's
# `@` is **OpenBLAS**, written in assembler, with many years of work in it. Both take part.
#
# ## Measure
# Other work on the machine only makes us slower. So there are three rounds; in each one version after the other runs
# several times, and its fastest run counts. A claim has to hold in every round.

# %%
N, ROUNDS, W = 288, 3, VECTOR // 4
VERSIONS = {  # how to call it, with matrices of which size, how often in a round, FLOP per byte (see below)
    "three loops in Python": (python, 24, 2, 1 / 4),
    "NumPy, all products at once": (broadcast, N, 2, 1 / 10),
    "wrong order": (wrong, N, 2, 1 / 4),
    "right order": (right, N, 20, 1 / 6),
    "right order, in blocks": (partial(right, block=32), N, 20, 1 / 6),
    "tile in registers": (tile, N, 20, 2 * 12 * W / (4 * (3 * W + 4))),
    "minigrad": (lambda a, b, c: np.copyto(c, kernels.matmul(a, b)), N, 20, None),
    "NumPy's @ (OpenBLAS)": (lambda a, b, c: np.matmul(a, b, out=c), N, 20, None),
}


def matrices(n, seed=0):
    """Random a and b, and room for the result, (3, n, n), which begins at a multiple of 64 bytes."""
    made = kernels.empty((3, n, n), np.dtype("float32"))
    made[:] = np.random.default_rng(seed).standard_normal(made.shape, made.dtype)
    return made


def rate(work, amount, times):
    """GFLOP/s, or GB/s, of the fastest of several runs of a work of this many FLOP, or bytes."""
    return amount / min(repeat(work, number=1, repeat=times)) / 1e9


rates, errors = {name: [] for name in VERSIONS}, {}
for name, (multiply, n, times, _) in [*VERSIONS.items()] * ROUNDS:
    a, b, c = matrices(n)
    multiply(a, b, c)  # the first time, Numba compiles it
    errors[name] = np.abs(c - a.astype(float) @ b).max() / (np.abs(a) @ np.abs(b)).max()
    rates[name].append(rate(partial(multiply, a, b, c), 2 * n**3, times))
rates = {name: np.array(found) for name, found in rates.items()}

# %% [markdown]
# ## The limits of this machine: a roofline
# Two things can be the limit. The **peak**: how many FLOP a second if nothing is fetched? We measure it by FMAs on 12
# registers (12, since the next FMA on a register waits for the last one). And the **bandwidth**: how many bytes a
# second? That is measured by the **triad** $x_i = y_i + 2 z_i$, in arrays that fit into the first cache, or into none.


# %%
@compiled
def multiply_add(x, steps):
    """`steps` times 12 FMAs, in registers only."""
    a, b = spread(x, 1.0000001), spread(x, 1e-9)
    c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = c8 = c9 = d0 = d1 = b
    for _ in range(steps):
        c0, c1, c2, c3 = fma(c0, a, b), fma(c1, a, b), fma(c2, a, b), fma(c3, a, b)
        c4, c5, c6, c7 = fma(c4, a, b), fma(c5, a, b), fma(c6, a, b), fma(c7, a, b)
        c8, c9, d0, d1 = fma(c8, a, b), fma(c9, a, b), fma(d0, a, b), fma(d1, a, b)
    return total(c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8 + c9 + d0 + d1)


@compiled
def triad(x, y, z, times):
    """x = y + 2 z, `times` times."""
    for _ in range(times):
        for i in range(x.size):
            x[i] = y[i] + np.float32(2) * z[i]


small, large = [x.ravel()[:1024] for x in matrices(N)], np.ones((3, 2**24), np.float32)
multiply_add(small[0], 1), triad(*small, 1)
peak = rate(partial(multiply_add, small[0], 50_000), 2 * 12 * 50_000 * W, 100)
cache = rate(partial(triad, *small, 1000), 1000 * 3 * small[0].nbytes, 100)
memory = rate(partial(triad, *large, 1), large.nbytes, 10)

# %% [markdown]
# Call **intensity** the FLOP that a program does for each byte that its instructions fetch or store. A program of
# intensity $I$ is not faster than $\min(\text{peak},\; I \times \text{bandwidth})$. With logarithmic axes this is a
# roof: a slope, and a flat part. The inner loops, for 2 FLOP each: `wrong` fetches two numbers, 8 bytes, so 1/4;
# `right` fetches two and stores one, 1/6; NumPy does that to sum, and one of each to multiply, 1/10. The tile does
# $24 W$ FLOP for $4 (3 W + 4)$ bytes: for $W = 16$ 1.8, **eleven times as much** as `right`. That is the whole trick.

# %%
with draw.figure(7.5, 4) as fig:
    axes = fig.subplots()
    x = np.geomspace(0.07, 30, 200)
    axes.loglog(x, np.minimum(peak, x * cache), "-", color="black", label=f"first cache, {cache:.0f} GB/s")
    axes.loglog(x, np.minimum(peak, x * memory), "--", color=draw.GREY, label=f"memory, {memory:.0f} GB/s")
    axes.text(30, 1.1 * peak, f"peak, {peak:.0f} GFLOP/s", ha="right", va="bottom")
    colours = draw.GREY, draw.SKY, draw.VERMILLION, draw.BLUE, draw.ORANGE, draw.GREEN
    for name, marker, size, colour in zip(VERSIONS, "vPsoD^", (8, 8, 8, 11, 5, 8), colours):
        axes.plot(VERSIONS[name][3], max(rates[name]), marker, color=colour, ms=size, label=name)
    for name, ends, line in (("minigrad", (3, 8), "-"), ("NumPy's @ (OpenBLAS)", (10, 30), ":")):
        axes.plot(ends, [max(rates[name])] * 2, ls=line, color=draw.PURPLE, lw=3, label=name)
    axes.set(xlabel="intensity, FLOP per byte that the inner loop asks for", title="GFLOP/s, one thread")
    fig.legend(loc="outside right center", fontsize=draw.SMALL)
show(draw.Plot(fig, rates | {"peak": peak, "first cache": cache, "memory": memory}), "a04-roofline")

# %% [markdown]
# `right` is near the slope: what the first cache can deliver is its limit. Blocks change little, since all matrices fit
# into the second cache. (minigrad uses blocks of tiles for larger ones.) `wrong` is near or below the roof of the
# *memory*: for 4 bytes of B that it asks for, 64 are moved. NumPy has to carry all $N^3$ products to the memory and
# back. The tile is near the peak, over 10,000 times as fast as Python. (The bytes of the two lines we did not count.)
#
# ## Two threads, the same bits
# Sums of floats depend on their order, in the last digits. If each of two threads took one half of $k$, and the two
# results were added, would they be the same as with one thread? minigrad's kernel cuts $C$ into pieces, not the sums:
# each number of $C$ is summed by one thread, in the order of $k$. So training on fewer threads gives the same bits.

# %%
threads, halves = [], []
for seed in range(fast(5, 3)):
    a, b, _ = matrices(400, seed)
    alone = kernels.matmul(a, b)
    kernels.set_num_threads(2)
    threads.append(np.count_nonzero(kernels.matmul(a, b) != alone))
    kernels.set_num_threads(1)
    halves.append(np.count_nonzero(kernels.matmul(a[:, :200], b[:200]) + kernels.matmul(a[:, 200:], b[200:]) != alone))

slow, quick, _, tiles, ours, blas = [*rates.values()][2:]
[
    claim(f"a04.{number}", statement, statistic, values, needs, verdict, over=over)
    for number, statement, statistic, values, over, needs, verdict in (
        (1, "The right order is faster", "GFLOP/s, right / wrong order", quick / slow, "rounds", "> 1.5", "SUPPORTED"),
        (2, "A tile is faster still", "GFLOP/s, tile / right order", tiles / quick, "rounds", "> 1.3", "SUPPORTED"),
        (3, "minigrad has 0.4 of OpenBLAS's speed", "GFLOP/s, ours / its", ours / blas, "rounds", "> 0.4", "SUPPORTED"),
        (4, "All are right", "error / largest sum of |a| |b|", [*errors.values()], "versions", "< 1e-5", "SUPPORTED"),
        (5, "Threads do not change results", "numbers that differ", threads, "seeds", "== 0", "SUPPORTED"),
        (6, "Nor would threads that share sums", "numbers that differ", halves, "seeds", "== 0", "REFUTED"),
    )
]

# %% [markdown]
# **When is this of use?** Where numbers are used often, as in products of large matrices. An addition or a softmax does
# about one FLOP for a byte: the bandwidth is the limit, and what helps is to do several in one go, a *fused* kernel.
#
# **Exercise.** A product in blocks for matrices of any size, also odd or empty: `python -m tutorials.check a04`
#
# **References.** Williams, Waterman and Patterson 2009, *Roofline: An Insightful Visual Performance Model for Multicore
# Architectures*. Ilic, Pratas and Sousa 2014, *Cache-aware Roofline Model* (bytes as the core asks for them, as here).
# Goto and van de Geijn 2008, *Anatomy of High-Performance Matrix Multiplication*.
