"""Tensor: an array that remembers how it was made. Names, argument order and meaning are PyTorch's.

Every method is one line that calls an operation of `minigrad.ops`; there is nothing to understand here but the names,
except for writing in place, at the end of the class.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import ops
from .arguments import as_array, flattened, no_number, only_one, pickled, plain, sizes
from .core import Array, DTypeError, GradError, ShapeError, Value, backward, leaf, state, writes
from .hooks import Handle

Dim = int | tuple[int, ...] | None
Flag = bool  # Tensor has a method named bool


class Tensor(Value):
    """An n-dimensional array of one dtype with a gradient.

    `data` is the NumPy array, `grad` is None or a Tensor of the same shape and dtype, `node` is the step that made
    this tensor (None if it needs no gradient). Python numbers and lists become float32 or int64, arrays keep their
    dtype. Raises TypeError for data that is not numeric.

    >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])
    """

    __slots__ = ()
    __array_ufunc__ = None  # NumPy leaves `array + tensor` to us, and refuses `array += tensor`
    grad: Tensor | None

    def __init__(self, data: Any, *more: Any, requires_grad: Flag = False, dtype: Any = None) -> None:
        if more:
            raise TypeError(f"Tensor(): one argument is the data; for sizes use mg.empty{(data, *more)}.")
        self.data = as_array(data, dtype)
        self.grad = None
        self.node = None
        if requires_grad:
            self.requires_grad_()

    def _result(self, data: Array, node: Any) -> Tensor:
        result = object.__new__(Tensor)
        result.data, result.grad, result.node = data, None, node
        return result

    # ------------------------------------------------------------------------------------------------------ the graph
    @property
    def requires_grad(self) -> Flag:
        """Whether gradients flow to this tensor."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, flag: Flag) -> None:
        self.requires_grad_(flag)

    def requires_grad_(self, flag: Flag = True) -> Tensor:
        """Make this leaf want a gradient, or not. Raises GradError for a result of an operation, and for integers."""
        if not self.is_leaf:
            raise GradError("requires_grad_(): only leaves can be switched; this tensor is a result. Use detach().")
        if flag and self.data.dtype.kind != "f":
            raise GradError(f"requires_grad_(): only floats have gradients, this is {self.dtype}. Use .float() first.")
        if flag != self.requires_grad:
            self.node = leaf(self) if flag else None
        return self

    @property
    def is_leaf(self) -> Flag:
        """Whether no operation made this tensor (or none that was recorded)."""
        return self.node is None or self.node.op is None

    @property
    def grad_fn(self) -> Any:
        """The node of the operation that made this tensor; None for a leaf."""
        return None if self.is_leaf else self.node

    def backward(self, gradient: Any = None, retain_graph: Flag = False, create_graph: Flag = False) -> None:
        """Add dL/dleaf to the `.grad` of every leaf, given `gradient` = dL/dself (1 for a single element).

        Raises GradError where there is no graph, for more than one element without `gradient`, and on a second call.
        """
        if create_graph:
            raise GradError("backward(): create_graph=True: minigrad computes first derivatives only.")
        if self.node is None:
            raise GradError("backward(): no gradient is wanted: no leaf has requires_grad=True, or no_grad() was on.")
        if gradient is None:
            if self.data.size != 1:
                raise GradError(f"backward(): the shape is {self.shape}; give `gradient`, or reduce to one number.")
            gradient = np.ones_like(self.data)
        g = np.asarray(gradient.data if isinstance(gradient, Tensor) else gradient, self.data.dtype)
        if g.shape != self.shape:
            raise ShapeError(f"backward(): the tensor has shape {self.shape}, the gradient {g.shape}; make them equal.")
        writes.check_fresh(self)
        with np.errstate(all="ignore"):  # 0 * inf is a NaN gradient, not a warning
            backward(self.node, g, retain_graph)

    def retain_grad(self) -> None:
        """Keep the gradient of this result in `.grad`, too."""
        if self.node is None:
            raise GradError("retain_grad(): this tensor does not require a gradient")
        if not self.is_leaf:
            self.node.holder = weakref.ref(self)

    def register_hook(self, hook: Callable[[Tensor], Any]) -> Handle:
        """In every backward pass call hook(gradient), once, with all that has arrived; what it returns replaces it.

        Hooks are called in their order, each with what the one before left; None leaves it as it is. `remove()` of what
        this returns takes the hook away. Raises GradError for a tensor that requires no gradient.
        """
        if self.node is None:
            raise GradError("register_hook(): this tensor does not require a gradient")

        def call(g: Array) -> Array | None:
            new = hook(Tensor(g.copy()))
            new = None if new is None else np.asarray(plain(new), g.dtype)
            if new is not None and new.shape != g.shape:
                raise ShapeError(f"register_hook(): the gradient has shape {g.shape}, the hook returned {new.shape}.")
            return new

        return Handle(self.node, call)

    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        return self._result(self.data, None)

    # ------------------------------------------------------------------------------------------------- what is in it
    # fmt: off
    @property
    def shape(self) -> tuple[int, ...]: return self.data.shape
    @property
    def dtype(self) -> np.dtype: return self.data.dtype
    @property
    def ndim(self) -> int: return self.data.ndim
    @property
    def device(self) -> str: return "cpu"
    @property
    def T(self) -> Tensor: return ops.permute(self, dims=tuple(range(self.ndim))[::-1])
    @property
    def mT(self) -> Tensor: return ops.transpose(self, dim0=-2, dim1=-1)

    def size(self, dim: int | None = None) -> Any: return self.shape if dim is None else self.shape[dim]
    def dim(self) -> int: return self.data.ndim
    def numel(self) -> int: return self.data.size
    def nelement(self) -> int: return self.data.size
    def is_contiguous(self) -> Flag: return self.data.flags.c_contiguous
    def item(self) -> Any: return only_one("item", self.data, "Use tolist().")
    def tolist(self) -> Any: return self.data.tolist()
    def __bool__(self) -> Flag: return bool(only_one("bool", self.data, "Use .all() or .any()."))
    def __float__(self) -> Any: return float(self.item())
    def __int__(self) -> int: return int(self.item())
    def __copy__(self) -> Tensor: return self.detach().requires_grad_(self.requires_grad)
    def __reduce__(self) -> Any: return pickled(self)
    # fmt: on

    def numpy(self) -> Array:
        """The array itself, sharing memory; an error if gradients flow here (a write would go unseen)."""
        if self.requires_grad:
            raise GradError("numpy(): this tensor requires a gradient; use .detach().numpy()")
        return self.data

    def __array__(self, dtype: Any = None, copy: Flag | None = None) -> Array:
        return np.array(self.numpy(), dtype, copy=copy)

    def __repr__(self) -> str:
        text = np.array2string(self.data, separator=", ", prefix="tensor(")
        dtype = "" if self.dtype in (np.float32, np.int64, np.bool_) else f", dtype={self.dtype}"
        grad = "" if self.node is None else ", requires_grad=True" if self.is_leaf else f", op={self.grad_fn.op.name}"
        size = f", size={self.shape}" if self.data.size == 0 and self.ndim != 1 else ""
        return f"tensor({text}{size}{dtype}{grad})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 else format(str(self), spec)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self.data)))

    def __index__(self) -> int:
        if self.data.ndim or self.data.dtype.kind not in "iub":
            raise TypeError(f"only a 0-d integer tensor can be an index, not one of shape {self.shape}, {self.dtype}")
        return int(self.data)

    __hash__ = object.__hash__  # by identity, although == compares elements

    def __deepcopy__(self, memo: dict) -> Tensor:
        if not self.is_leaf:
            raise GradError("deepcopy(): only leaves can be copied; this tensor is a result. Use .detach().clone().")
        copy = object.__new__(type(self))
        copy.data, copy.node = self.data.copy(), None
        copy.grad = None if self.grad is None else self.grad.clone()
        memo[id(self)] = copy
        return copy.requires_grad_() if self.requires_grad else copy

    # ------------------------------------------------------------------------------------------------------- operators
    # fmt: off
    def __add__(self, other: Any) -> Tensor: return ops.add(self, other)
    def __radd__(self, other: Any) -> Tensor: return ops.add(other, self)
    def __sub__(self, other: Any) -> Tensor: return ops.sub(self, other)
    def __rsub__(self, other: Any) -> Tensor: return ops.sub(other, self)
    def __mul__(self, other: Any) -> Tensor: return ops.mul(self, other)
    def __rmul__(self, other: Any) -> Tensor: return ops.mul(other, self)
    def __truediv__(self, other: Any) -> Tensor: return ops.div(self, other)
    def __rtruediv__(self, other: Any) -> Tensor: return ops.div(other, self)
    def __pow__(self, other: Any) -> Tensor: return ops.pow(self, other)
    def __rpow__(self, other: Any) -> Tensor: return ops.pow(other, self)
    def __matmul__(self, other: Any) -> Tensor: return ops.matmul(self, other)
    def __rmatmul__(self, other: Any) -> Tensor: return ops.matmul(other, self)
    def __floordiv__(self, other: Any) -> Tensor: return ops.floor_divide(self, other)
    def __rfloordiv__(self, other: Any) -> Tensor: return ops.floor_divide(other, self)
    def __mod__(self, other: Any) -> Tensor: return ops.remainder(self, other)
    def __rmod__(self, other: Any) -> Tensor: return ops.remainder(other, self)
    def __neg__(self) -> Tensor: return ops.neg(self)
    def __pos__(self) -> Tensor: return self
    def __abs__(self) -> Tensor: return ops.abs(self)
    def __invert__(self) -> Tensor: return ops.logical_not(self)
    def __and__(self, other: Any) -> Tensor: return ops.logical_and(self, other)
    def __rand__(self, other: Any) -> Tensor: return ops.logical_and(other, self)
    def __or__(self, other: Any) -> Tensor: return ops.logical_or(self, other)
    def __ror__(self, other: Any) -> Tensor: return ops.logical_or(other, self)
    def __xor__(self, other: Any) -> Tensor: return ops.logical_xor(self, other)
    def __rxor__(self, other: Any) -> Tensor: return ops.logical_xor(other, self)
    def __eq__(self, other: object) -> Any: return False if no_number(other) else ops.eq(self, other)
    def __ne__(self, other: object) -> Any: return True if no_number(other) else ops.ne(self, other)
    def __lt__(self, other: Any) -> Tensor: return ops.lt(self, other)
    def __le__(self, other: Any) -> Tensor: return ops.le(self, other)
    def __gt__(self, other: Any) -> Tensor: return ops.gt(self, other)
    def __ge__(self, other: Any) -> Tensor: return ops.ge(self, other)
    def __getitem__(self, index: Any) -> Tensor: return ops.index(self, index=plain(index))

    def pow(self, exponent: Any) -> Tensor: return ops.pow(self, exponent)
    def matmul(self, other: Any) -> Tensor: return ops.matmul(self, other)
    def exp(self) -> Tensor: return ops.exp(self)
    def log(self) -> Tensor: return ops.log(self)
    def sqrt(self) -> Tensor: return ops.sqrt(self)
    def sin(self) -> Tensor: return ops.sin(self)
    def cos(self) -> Tensor: return ops.cos(self)
    def tanh(self) -> Tensor: return ops.tanh(self)
    def sigmoid(self) -> Tensor: return ops.sigmoid(self)
    def relu(self) -> Tensor: return ops.relu(self)
    def abs(self) -> Tensor: return ops.abs(self)
    def maximum(self, other: Any) -> Tensor: return ops.maximum(self, other)
    def minimum(self, other: Any) -> Tensor: return ops.minimum(self, other)
    def clamp(self, min: Any = None, max: Any = None) -> Tensor: return ops.clamp(self, min=min, max=max)
    def where(self, condition: Any, other: Any) -> Tensor: return ops.where(condition, self, other)
    def masked_fill(self, mask: Any, value: Any) -> Tensor: return ops.masked_fill(self, mask, value=float(value))
    def isfinite(self) -> Tensor: return ops.isfinite(self)

    # ------------------------------------------------------------------------------------------ reduce and normalise
    def sum(self, dim: Dim = None, keepdim: Flag = False) -> Tensor: return ops.sum(self, dim=dim, keepdim=keepdim)
    def mean(self, dim: Dim = None, keepdim: Flag = False) -> Tensor: return ops.mean(self, dim=dim, keepdim=keepdim)
    def amax(self, dim: Dim = None, keepdim: Flag = False) -> Tensor: return ops.amax(self, dim=dim, keepdim=keepdim)
    def amin(self, dim: Dim = None, keepdim: Flag = False) -> Tensor: return ops.amin(self, dim=dim, keepdim=keepdim)
    def max(self, dim: int | None = None, keepdim: Flag = False) -> Any:
        return ops.maximum_along(self, dim, keepdim)
    def min(self, dim: int | None = None, keepdim: Flag = False) -> Any:
        return ops.minimum_along(self, dim, keepdim)
    def all(self, dim: Dim = None, keepdim: Flag = False) -> Tensor: return ops.all(self, dim=dim, keepdim=keepdim)
    def any(self, dim: Dim = None, keepdim: Flag = False) -> Tensor: return ops.any(self, dim=dim, keepdim=keepdim)
    def argmax(self, dim: int | None = None, keepdim: Flag = False) -> Tensor:
        return ops.argmax(self, dim=dim, keepdim=keepdim)
    def argmin(self, dim: int | None = None, keepdim: Flag = False) -> Tensor:
        return ops.argmin(self, dim=dim, keepdim=keepdim)
    def var(self, dim: Dim = None, keepdim: Flag = False, correction: int = 1) -> Tensor:
        return ops.var(self, dim=dim, keepdim=keepdim, correction=correction)
    def std(self, dim: Dim = None, keepdim: Flag = False, correction: int = 1) -> Tensor:
        return ops.std(self, dim=dim, keepdim=keepdim, correction=correction)
    def logsumexp(self, dim: Dim, keepdim: Flag = False) -> Tensor: return ops.logsumexp(self, dim=dim, keepdim=keepdim)
    def softmax(self, dim: int) -> Tensor: return ops.softmax(self, dim=dim)
    def log_softmax(self, dim: int) -> Tensor: return ops.log_softmax(self, dim=dim)

    # -------------------------------------------------------------------------------------------------- shape, dtype
    def split(self, size: Any, dim: int = 0) -> tuple[Tensor, ...]: return ops.split(self, size, dim)
    def t(self) -> Tensor: return self.T
    def view(self, *shape: Any) -> Tensor: return ops.view(self, shape=sizes(shape))
    def reshape(self, *shape: Any) -> Tensor: return ops.reshape(self, shape=sizes(shape))
    def permute(self, *dims: Any) -> Tensor: return ops.permute(self, dims=sizes(dims))
    def expand(self, *shape: Any) -> Tensor: return ops.expand(self, shape=sizes(shape))
    def transpose(self, dim0: int, dim1: int) -> Tensor: return ops.transpose(self, dim0=dim0, dim1=dim1)
    def squeeze(self, dim: Dim = None) -> Tensor: return ops.squeeze(self, dim=dim)
    def unsqueeze(self, dim: int) -> Tensor: return ops.unsqueeze(self, dim=dim)
    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        return ops.reshape(self, shape=flattened(self.data, start_dim, end_dim))
    def flip(self, *dims: Any) -> Tensor: return ops.flip(self, dims=sizes(dims))
    def roll(self, shifts: int, dims: int) -> Tensor: return ops.roll(self, shifts=shifts, dim=dims)
    def tril(self, diagonal: int = 0) -> Tensor: return ops.tril(self, diagonal=diagonal)
    def triu(self, diagonal: int = 0) -> Tensor: return ops.triu(self, diagonal=diagonal)
    def gather(self, dim: int, index: Any) -> Tensor: return ops.gather(self, index, dim=dim)
    def scatter(self, dim: int, index: Any, src: Any) -> Tensor: return ops.scatter(self, index, src, dim=dim)
    def contiguous(self) -> Tensor: return self if self.is_contiguous() else ops.contiguous(self)
    def clone(self) -> Tensor: return ops.clone(self)
    def type(self, dtype: Any) -> Tensor: return self if self.dtype == dtype else ops.cast(self, dtype=dtype)
    def type_as(self, other: Tensor) -> Tensor: return self.type(other.dtype)
    def float(self) -> Tensor: return self.type(np.float32)
    def double(self) -> Tensor: return self.type(np.float64)
    def long(self) -> Tensor: return self.type(np.int64)
    def bool(self) -> Tensor: return self.type(np.bool_)
    def cpu(self) -> Tensor: return self
    # fmt: on

    # ------------------------------------------------------------------------------------------------ writing in place
    # An in-place method computes its result out of place, writes it into this tensor's own memory and lets the graph
    # go on from there. Where that would make some gradient wrong it is an error, now or in backward().
    # fmt: off
    def add_(self, other: Any) -> Tensor: return self._write(ops.add(self, other))
    def sub_(self, other: Any) -> Tensor: return self._write(ops.sub(self, other))
    def mul_(self, other: Any) -> Tensor: return self._write(ops.mul(self._before(), other))
    def div_(self, other: Any) -> Tensor: return self._write(ops.div(self, other))
    def pow_(self, exponent: Any) -> Tensor: return self._write(ops.pow(self._before(), exponent))
    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        return self._write(ops.clamp(self._before(), min=min, max=max))
    def masked_fill_(self, mask: Any, value: Any) -> Tensor: return self._write(self.masked_fill(mask, value))
    def scatter_(self, dim: int, index: Any, src: Any) -> Tensor:
        return self._write(ops.scatter(self, index, src, dim=dim))
    def copy_(self, source: Any) -> Tensor: return self._put(..., source)
    def fill_(self, value: Any) -> Tensor: return self._put(..., value)
    def zero_(self) -> Tensor: return self._put(..., 0)
    def __setitem__(self, index: Any, value: Any) -> None: self._put(index, value)
    def __iadd__(self, other: Any) -> Tensor: return self.add_(other)
    def __isub__(self, other: Any) -> Tensor: return self.sub_(other)
    def __imul__(self, other: Any) -> Tensor: return self.mul_(other)
    def __itruediv__(self, other: Any) -> Tensor: return self.div_(other)
    def __ipow__(self, other: Any) -> Tensor: return self.pow_(other)
    def __imatmul__(self, other: Any) -> Tensor: return self._write(ops.matmul(self._before(), other))
    def __ifloordiv__(self, other: Any) -> Tensor: return self._write(ops.floor_divide(self, other))
    def __imod__(self, other: Any) -> Tensor: return self._write(ops.remainder(self._before(), other))
    def __iand__(self, other: Any) -> Tensor: return self._write(ops.logical_and(self, other))
    def __ior__(self, other: Any) -> Tensor: return self._write(ops.logical_or(self, other))
    def __ixor__(self, other: Any) -> Tensor: return self._write(ops.logical_xor(self, other))
    # fmt: on

    def _put(self, index: Any, value: Any) -> Tensor:
        value = value if isinstance(value, Tensor) else Tensor(value, dtype=self.dtype)
        return self._write(ops.index_put(self, value, index=plain(index)))

    def _before(self) -> Tensor:
        """This tensor for an op that may need its value, as it is before the write, in the backward pass."""
        return self.clone() if state.grad_enabled else self

    def _write(self, new: Tensor) -> Tensor:
        tracked = state.grad_enabled and self.requires_grad
        if tracked and self.is_leaf:
            raise GradError("in place: a leaf that requires a gradient; do it within no_grad(), or write x = x + 1.")
        borrowed = not tracked or (self.grad_fn.op.view and self.grad_fn.op is not ops.alias)
        if (tracked or new.requires_grad) and borrowed and writes.shared(self):
            raise GradError(
                "in place: the memory is that of another tensor, too, which would know nothing of the "
                "gradient (one of the two is a view); modify the tensor that was there first, or a clone()."
            )
        if new.shape != self.shape:
            raise ShapeError(f"in place: the tensor has shape {self.shape}, the result {new.shape}; make them equal.")
        if not np.can_cast(new.dtype, self.dtype, "same_kind"):
            raise DTypeError(f"in place: a result of dtype {new.dtype} does not fit into {self.dtype}; use y = y + x.")
        np.copyto(self.data, new.data, casting="same_kind")
        writes.stamp(self.data)
        if state.grad_enabled:  # the value has changed, and so has its history
            before, self.node = self.node, ops.alias(new).node
            if before is not None and self.node is not None:  # retain_grad() means the value as it is now
                before.holder, self.node.holder = None, before.holder
        return self
