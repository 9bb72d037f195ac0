"""The gated recurrent unit (Cho et al. 2014): a state that each step keeps in part. Names and layout as in torch.nn."""

from __future__ import annotations

import math
from typing import Any

from .. import creation, ops
from ..arguments import unwrap
from ..core import ShapeError
from ..tensor import Tensor
from . import functional as F
from . import init
from .layers import check_sizes
from .module import Module, Parameter


class _Recurrent(Module):
    """What a cell and a stack of layers have in common: sets of four parameters, and how they start."""

    hidden_size: int

    def _add_weights(self, suffix: str, inputs: int, bias: bool) -> None:
        """The rows of all four are the gates r, z and n, one below the other."""
        rows = 3 * self.hidden_size
        self.register_parameter(f"weight_ih{suffix}", Parameter(creation.empty(rows, inputs)))
        self.register_parameter(f"weight_hh{suffix}", Parameter(creation.empty(rows, self.hidden_size)))
        for name in (f"bias_ih{suffix}", f"bias_hh{suffix}"):
            self.register_parameter(name, Parameter(creation.empty(rows)) if bias else None)

    def _run(self, x: Tensor, h: Any, suffix: str, mask: Any = None, reverse: bool = False) -> Tensor:
        """From inputs (T, B, I) and the state before them (B, H) to all states (T, B, H)."""
        w_ih, w_hh, b_ih, b_hh = (getattr(self, f"{name}{suffix}") for name in WEIGHTS)
        return ops.gru(F.linear(x, w_ih, b_ih), h, w_hh, b_hh, mask, reverse=reverse)

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        bound = 1 / math.sqrt(max(self.hidden_size, 1))
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _check(self, name: str, what: str, x: Any, shape: tuple[Any, ...], rule: str) -> None:
        if x.shape != shape:
            raise ShapeError(f"{name}(): {what} has shape {x.shape}; it must be {rule} = {shape}.")


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class GRUCell(_Recurrent):
    """One step of a gated recurrent unit                              (Cho et al. 2014, in the variant of PyTorch):

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr),   z = sigmoid(W_iz x + b_iz + W_hz h + b_hz),
        n = tanh(W_in x + b_in + r (W_hn h + b_hn)),  h' = (1 - z) n + z h

    z says how much of the old state is kept, r how much of it the new proposal n may see. All parameters start uniform
    within +- 1/sqrt(hidden_size); the rows of weight_ih (3H, I) and weight_hh (3H, H) are r, z and n.

    >>> cell = GRUCell(3, 4)
    >>> cell(creation.ones(2, 3)).shape
    (2, 4)
    """  # fmt: skip

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__()
        check_sizes("GRUCell", input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self._add_weights("", input_size, bias)
        self.reset_parameters()

    def forward(self, input: Any, hx: Any = None) -> Tensor:
        """From input (B, I) and state (B, H), zeros unless given, to the next state (B, H); or all without B."""
        batch = input.shape[:-1]
        if len(batch) > 1 or input.shape[-1:] != (self.input_size,):
            raise ShapeError(
                f"GRUCell(): the input has shape {input.shape}; it must be (B, I) or (I), I = {self.input_size}."
            )
        hx = creation.zeros(*batch, self.hidden_size, dtype=input.dtype) if hx is None else hx
        self._check("GRUCell", "hx", hx, (*batch, self.hidden_size), "(B, H), or (H),")
        x, h = (a if batch else ops.unsqueeze(a, dim=0) for a in (input, hx))
        states = self._run(ops.unsqueeze(x, dim=0), h, "")  # (1, B, H)
        return states[0] if batch else states[0, 0]

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias}"


class GRU(_Recurrent):
    """Layers of gated recurrent units, each running over the states of the one below; the equations are GRUCell's.

    `bidirectional` gives every layer a second unit that runs from the end to the start; the states of both stand side
    by side, (..., 2H). `dropout` acts between layers. Parameters: weight_ih_l0 (3H, I), weight_hh_l0 (3H, H),
    bias_ih_l0 and bias_hh_l0 (3H), of the other direction weight_ih_l0_reverse and so on, of the next layer
    weight_ih_l1; all start uniform within +- 1/sqrt(hidden_size).

    Sentences of different lengths are not packed, as in PyTorch, but padded, and a mask says which steps are tokens:
    over padding the state is carried unchanged. So the last state, and the states at all tokens, are those of each
    sentence on its own; at padding the output is the state carried there, where PyTorch's pad_packed_sequence has 0.

    >>> layer = GRU(3, 4, bidirectional=True, batch_first=True)
    >>> output, h_n = layer(creation.ones(2, 5, 3), mask=creation.tensor([[True] * 5, [True] * 3 + [False] * 2]))
    >>> output.shape, h_n.shape
    ((2, 5, 8), (2, 2, 4))
    >>> bool((output[1, 4, :4] == h_n[0, 1]).all())
    True
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        check_sizes("GRU", input_size=input_size, hidden_size=hidden_size)
        if num_layers < 1:
            raise ValueError(f"GRU(): num_layers = {num_layers}; there must be at least 1")
        if not 0 <= dropout <= 1:
            raise ValueError(f"GRU(): dropout = {dropout}; a probability lies in [0, 1]")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            for direction in self.directions:
                inputs = len(self.directions) * hidden_size if layer else input_size
                self._add_weights(f"_l{layer}{direction}", inputs, bias)
        self.reset_parameters()

    def forward(self, input: Any, hx: Any = None, mask: Any = None) -> tuple[Tensor, Tensor]:
        """From the input, the first states and a mask to (output, h_n): the last layer's states, all layers' last ones.

        With D directions: input (T, B, I), or (B, T, I) with batch_first, or (T, I); mask boolean, True = a token, of
        the same shape without I; hx, zeros unless given, and h_n (D num_layers, B, H); output as the input, with D H
        for I. Raises ShapeError for other shapes.
        """
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            layout = "(B, T, I)" if self.batch_first else "(T, B, I)"
            raise ShapeError(
                f"GRU(): the input has shape {input.shape}; it must be {layout} or (T, I), I = {self.input_size}."
            )
        mask = None if mask is None else unwrap(mask)
        if mask is not None:
            self._check("GRU", "the mask", mask, input.shape[:-1], "as the input without its last dimension")
        single, swap = input.ndim == 2, input.ndim == 3 and self.batch_first
        x = ops.unsqueeze(input, dim=1) if single else ops.transpose(input, dim0=0, dim1=1) if swap else input
        mask = mask if mask is None else mask[:, None] if single else mask.T if swap else mask
        batch = () if single else (x.shape[1],)
        states = (self.num_layers * len(self.directions), *batch, self.hidden_size)
        hx = creation.zeros(*states, dtype=input.dtype) if hx is None else hx
        self._check("GRU", "hx", hx, states, "(D num_layers, B, H), or the same without B,")
        hx = ops.unsqueeze(hx, dim=1) if single else hx

        last = []
        for layer in range(self.num_layers):
            x = F.dropout(x, self.dropout, self.training) if layer else x
            outputs = []
            for direction in self.directions:
                output = self._run(
                    x, hx[len(last)], f"_l{layer}{direction}", mask, reverse=direction != ""
                )  # (T, B, H)
                outputs.append(output)
                last.append(output[0 if direction else -1])
            x = ops.cat(*outputs, dim=-1) if len(outputs) > 1 else outputs[0]
        h_n = ops.stack(*last)
        if single:
            return ops.squeeze(x, dim=1), ops.squeeze(h_n, dim=1)
        return ops.transpose(x, dim0=0, dim1=1) if swap else x, h_n

    def extra_repr(self) -> str:
        """The settings, as far as they are not the usual ones."""
        usual = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        given = [f"{name}={getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value]
        return ", ".join([str(self.input_size), str(self.hidden_size), *given])
