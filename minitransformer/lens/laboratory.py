"""The mask laboratory: what every result depends on, measured, beside what it may depend on.

Three verdicts for every pair of a result t and a token s:

- **gradient**: whether dL_t/dx_s has an entry that is not exactly 0, where x_s is the vector of the token and L_t a
  random weighing of all entries of the result. One backward pass gives all of them: the sentence is repeated in a
  batch, and row t gets its cotangent at result t only. (A sum as L_t would hide much: softmax and LayerNorm pass no
  gradient of a constant cotangent on.) A gradient can be 0 by chance, where every unit of a ReLU on the way is off;
  with a random cotangent over all logits, and residual connections, that is unlikely.
- **perturbation**: whether the result changes in any bit when another token is put at s, compared with a batch of the
  same size. It sees also what has no gradient, and misses what rounding hides; so the two complement each other.
- **structure**: what the masks let through that the softmaxes really got, composed through the layers.

None of them asks whether the model has been trained. A masked value is multiplied by an exact 0. That is 0 only for
finite values: 0 times infinity is NaN, which then is everywhere. So where NaN or infinity turns up there is no verdict,
but a FloatingPointError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

from .leaks import Leak, find, masks_used
from .measure import measure
from .probe import Pair, Probe, one_sentence, still
from .structure import structure, unknown_modules

Array = np.ndarray

SYMBOLS = {"leak": "X", "missing": "o", "depends": "#", "independent": "."}


class LeakError(AssertionError):
    """A result depends on something that it must not see."""


@dataclass(frozen=True)
class Matrix:
    """One pair: the rows are the results of `output`, (R,), the columns the tokens of `input`, (C,).

    rows, columns: what they are called, R and C strings; gradient (R, C): the largest entry of the gradient in size;
    perturbation (R, C), boolean: whether the result changed; structural (R, C), boolean, or None where it is unknown;
    expected (R, C), boolean: what may depend by the definition of the model; real (R, C), boolean: where neither is
    padding; leak: the largest leak, followed through the model, or None.
    """

    output: str
    input: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    gradient: Array
    perturbation: Array
    structural: Array | None
    expected: Array
    real: Array
    leak: Leak | None = None

    @property
    def depends(self) -> Array:
        """Where the gradient is not exactly 0 or the perturbation changed a bit, (R, C)."""
        return (self.gradient != 0) | self.perturbation

    @property
    def leaks(self) -> list[tuple[int, int]]:
        """The cells that depend although they must not."""
        return _cells(self.depends & ~self.expected)

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The cells that may depend and do not: no mistake, but worth knowing."""
        return _cells(self.expected & self.real & ~self.depends)

    @property
    def holds(self) -> bool:
        """Whether nothing leaks."""
        return not self.leaks

    def verdict(self, row: int, column: int) -> str:
        """Of a cell: "depends", "independent", "leak" or "missing"."""
        depends, expected = self.depends[row, column], self.expected[row, column]
        if depends:
            return "depends" if expected else "leak"
        return "missing" if expected and self.real[row, column] else "independent"

    def report(self) -> str:
        """The matrix as text, and how far the three verdicts agree."""
        names = [f"{number} {name}" for number, name in enumerate(self.rows)]
        width = max(map(len, names))
        lines = [f"{self.output} x {self.input}: {_count(len(self.leaks), 'leak')}"]
        lines.append(" " * width + " " + " ".join(str(number % 10) for number in range(len(self.columns))))
        for row, name in enumerate(names):
            cells = [SYMBOLS[self.verdict(row, column)] for column in range(len(self.columns))]
            lines.append(f"{name:>{width}} {' '.join(cells)}")
        agree = np.array_equal(self.gradient != 0, self.perturbation)
        lines.append("gradient and perturbation " + ("agree" if agree else "differ"))
        if self.structural is None:
            lines[-1] += "; structure unknown"
        else:
            through = (self.depends & ~self.structural).sum()
            lines[-1] += f"; {_count(through, 'cell')} beyond what the masks let through"
        return "\n".join(lines)

    __repr__ = report


@dataclass(frozen=True)
class Dependency:
    """What `dependency` found.

    model: the class of the model; matrices: by (output, input); masks: (T, S) by the path of each attention, what any
    head may see, as the softmax got it; unknown: the paths of modules that are not of this library, because of which
    structure is unknown; coupled: whether the sentences of a batch see each other; shift: None, or by how many places
    the labels lag behind the input, so that each step can read its own label.
    """

    model: str
    matrices: dict[Pair, Matrix]
    masks: dict[str, Array] = field(repr=False)
    unknown: tuple[str, ...] = ()
    coupled: bool = False
    shift: int | None = None

    def __getitem__(self, pair: Pair) -> Matrix:
        if pair not in self.matrices:
            raise KeyError(f"Dependency: there is no pair {pair!r}; there are {', '.join(map(str, self.matrices))}.")
        return self.matrices[pair]

    @property
    def leaks(self) -> list[Leak]:
        """The largest leak of each pair that has any."""
        return [matrix.leak for matrix in self.matrices.values() if matrix.leak is not None]

    @property
    def missing(self) -> list[tuple[str, str, int, int]]:
        """(output, input, row, column) of the cells that may depend and do not."""
        return [(*pair, *cell) for pair, matrix in self.matrices.items() for cell in matrix.missing]

    @property
    def holds(self) -> bool:
        """Whether nothing leaks, neither through the model nor into the labels."""
        return self.shift is None and all(matrix.holds for matrix in self.matrices.values())

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        if not self.holds:
            return "LEAKS"
        if all(matrix.expected.all() for matrix in self.matrices.values()):
            return "may see everything; what it must not see is said by expected="
        return "every mask holds"

    @property
    def diagnosis(self) -> str | None:
        """What is wrong, by name; None if nothing is."""
        if self.shift is not None:
            return "no target shift"
        return self.leaks[0].diagnosis if self.leaks else None

    def problems(self) -> list[str]:
        """What is wrong, in sentences."""
        found = [str(leak) for leak in self.leaks]
        if self.shift is not None:
            found.insert(
                0,
                f"no target shift: the label of step t is token t - {self.shift} of what the model reads, and step t "
                "sees that token. Feed tgt[:, :-1] and compare with tgt[:, 1:].",
            )
        return found

    def report(self) -> str:
        """Everything as text: # depends, . does not, X leaks, o may depend and does not."""
        lines = [f"{self.model}: {self.headline}"]
        lines += [f"  {problem}" for problem in self.problems()]
        if self.coupled:
            lines.append("  sentences of a batch see each other; this one was measured alone")
        if self.unknown:
            lines.append(f"  structure unknown because of {', '.join(path or 'the model' for path in self.unknown)}")
        lines.append("  # depends   . does not, exactly   X leaks   o might depend, does not")
        return "\n\n".join(["\n".join(lines), *[matrix.report() for matrix in self.matrices.values()]])

    __repr__ = report

    def check(self) -> None:
        """Raise LeakError, with all that is wrong, unless everything holds."""
        if not self.holds:
            raise LeakError("\n".join([f"{self.model}: something sees what it must not see.", *self.problems()]))


def dependency(
    model: nn.Module,
    src: Any,
    tgt: Any = None,
    *,
    expected: Mapping[Pair, Any] | None = None,
    labels: Any = None,
    seed: int = 0,
) -> Dependency:
    """Measure which results of a model depend on which tokens of one sentence, and follow what leaks.

    src, tgt: one sentence each, tokens (S,) or (1, S), and (T,) or (1, T); padding is welcome. The pairs are, and may
    depend by definition:

    - Transformer, and what has its parts: ("encoder", "source") and ("decoder", "source") on every token of the source;
      ("decoder", "target") on this and earlier ones of the target; ("encoder", "target") on nothing;
    - LanguageModel: ("decoder", "text") on this and earlier tokens; Classifier: ("class", "text") on every token;
    - another module that takes tokens to a tensor (B, T, V) through an nn.Embedding: ("output", "input") on everything.

    In the models of this library not on padding, but for what stands there itself. `expected` replaces this for the
    pairs that are in it, by boolean arrays (R, C). labels: what the model is trained to say after each token of tgt, or
    of src if there is no tgt, (T,): it must not be able to read them off its input. seed: of the cotangents and of the
    tokens that are put in.

    The model runs in the mode in which it is, so that a BatchNorm in training shows what it lets through; dropout is
    switched off for the while. Modes, buffers and gradients are left as they were. If sentences see each other in a
    batch, the rows are run one by one. Cost: two runs of a batch of S + T + 1 sentences and one backward pass, without
    fused ops, since somebody looks.

    Structure is known for the three models of this library as long as all their modules are of this library, too, with
    whatever masks.

    Raises ValueError for a model that is random or reads no tokens, and for an `expected` that does not fit,
    FloatingPointError where there is NaN or infinity, ShapeError for arguments of other shapes.

    >>> from minitransformer import LanguageModel, TransformerConfig
    >>> _ = mg.manual_seed(0)
    >>> config = TransformerConfig(src_vocab_size=9, d_model=8, nhead=2, num_decoder_layers=1)
    >>> found = dependency(LanguageModel(config), [4, 5, 6])
    >>> found.holds
    True
    >>> found["decoder", "text"]
    decoder x text: 0 leaks
        0 1 2
    0 4 # . .
    1 5 # # .
    2 6 # # #
    gradient and perturbation agree; 0 cells beyond what the masks let through
    """
    probe, rng = Probe(model, src, tgt), np.random.default_rng(seed)
    with still(model):
        first = probe.run(probe.alone())
        results = {name: x.shape[1:] for name, x in first.outputs.items()}  # (R, V)
        promise = _promise(probe, results, expected)
        gradient, changed, coupled = measure(probe, results, rng, together=True)
        if coupled:
            gradient, changed, random = measure(probe, results, rng, together=False)
            if random:
                raise ValueError(
                    "dependency(): two runs on the same sentence differ, so something in the model is random. "
                    "Try model.eval()."
                )
        masks = masks_used(probe)
        through = structure(model, masks, probe.real) or {}
        matrices = {}
        for pair, may in promise.items():
            output, name = pair
            size, bits = gradient[pair], changed[pair]
            own = probe.rows_of(output, len(size))
            rows = probe.sentences[own] if own else [output] * len(size)
            real = (probe.real[own] if own else np.ones(len(size), bool))[:, None] & probe.real[name]
            bad = np.where(((size != 0) | bits) & ~may, size, -1.0)
            leak = None
            if (bad >= 0).any():
                cell = divmod(int(bad.argmax()), bad.shape[1])
                leak = find(probe, promise, pair, cell, rng)
            names = tuple(map(str, rows)), tuple(map(str, probe.sentences[name]))
            matrices[pair] = Matrix(*pair, *names, size, bits, through.get(pair), may, real, leak)
    shift = None if labels is None else _visible_labels(probe, labels, matrices)
    unknown = tuple(unknown_modules(model))
    return Dependency(type(model).__name__, matrices, masks, unknown, coupled, shift)


def _promise(
    probe: Probe, results: Mapping[str, tuple[int, ...]], expected: Mapping[Pair, Any] | None
) -> dict[Pair, Array]:
    """What may depend on what, (R, C) for every pair: by definition, or as the user says."""
    if not isinstance(expected, Mapping | None):
        raise ValueError(
            f"dependency(): expected is a {type(expected).__name__}; it must be a dict from pairs to boolean arrays, "
            f"such as {{{(list(results)[-1], list(probe.real)[-1])}: np.tri(T, dtype=bool)}}."
        )
    promise = {}
    for output, (size, _) in results.items():
        for name, real in probe.real.items():
            may = np.tile(real, (size, 1))
            if (output, name) == ("encoder", "target"):
                may[:] = False
            elif (output, name) == ("output", "input"):
                may[:] = True
            elif probe.output_of[name] == output and output != "class":  # both are the same tokens
                may |= np.eye(size, dtype=bool)
                may &= np.tri(size, dtype=bool) if output == "decoder" else True
            promise[output, name] = may
    for pair, given in (expected or {}).items():
        array = np.asarray(given)
        if pair not in promise or array.dtype != bool or array.shape != promise[pair].shape:
            shapes = ", ".join(f"{pair}: {may.shape}" for pair, may in promise.items())
            raise ValueError(
                f"dependency(): expected[{pair!r}] has shape {array.shape}, dtype {array.dtype}; the pairs are, "
                f"boolean, {shapes}."
            )
        promise[pair] = array
    return promise


def _visible_labels(probe: Probe, labels: Any, matrices: Mapping[Pair, Matrix]) -> int | None:
    """By how many places k >= 0 the labels lag behind the input, labels[t] = tokens[t - k], if step t sees t - k.

    None if the labels are one step ahead, as they should be, or have nothing to do with the input.
    """
    name = list(probe.sentences)[-1]
    ids, real = probe.sentences[name], probe.real[name]
    pair = probe.output_of[name], name
    given = one_sentence("labels", labels)
    if given.shape != ids.shape or len(matrices[pair].rows) != len(ids):
        raise mg.ShapeError(
            f"dependency(): labels has shape {given.shape}, the {name} {ids.shape}, the {pair[0]} gives "
            f"{len(matrices[pair].rows)} results; there must be one label and one result per token."
        )
    steps = np.arange(len(ids))
    compared = real & (given != probe.pad(name))

    def lags_by(k: int) -> bool:
        there = compared & (steps >= k) & (steps < len(ids) + k)
        return there.sum() >= min(2, len(ids)) and bool((given[there] == ids[steps[there] - k]).all())

    if lags_by(-1):
        return None
    visible = [k for k in range(len(ids)) if lags_by(k) and matrices[pair].depends.diagonal(-k).any()]
    return visible[0] if visible else None


def _cells(where: Array) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in np.argwhere(where)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
