"""The layers: parameters with one line of computation each, and containers. Arguments as in torch.nn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from .. import creation
from ..core import no_grad
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module, Parameter


def check_sizes(name: str, **sizes: int) -> None:
    """Raise ValueError for a negative size."""
    for field, size in sizes.items():
        if size < 0:
            raise ValueError(f"{name}(): {field} = {size}; a size cannot be negative")


class Linear(Module):
    """y = x W^T + b, with x (..., in_features) and y (..., out_features).

    Starts uniform within +- 1/sqrt(in_features), as in PyTorch.

    >>> layer = Linear(3, 2)
    >>> layer(creation.ones(5, 3)).shape
    (5, 2)
    """

    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(creation.empty(out_features, in_features))
        self.register_parameter("bias", Parameter(creation.empty(out_features)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(max(self.in_features, 1))
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Tensor:
        """Input (..., in_features) to (..., out_features)."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """A table of `num_embeddings` rows of size `embedding_dim`; the input, integers, says which rows to take.

    Starts normal with variance 1. The row `padding_idx` starts at 0 and gets no gradient.

    >>> table = Embedding(10, 4, padding_idx=0)
    >>> table(creation.tensor([[1, 2, 0]])).shape
    (1, 3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        check_sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding(): padding_idx = {padding_idx}; there are {num_embeddings} rows only")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter(creation.empty(num_embeddings, embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0

    def forward(self, input: Any) -> Tensor:
        """Indices (...) to rows (..., embedding_dim)."""
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """The sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Residual(Module):
    """y = x + f(x), a residual connection                              (He et al. 2016, "Deep Residual Learning").

    The gradient reaches x past f as it is, and through f. A recording tells the two apart.

    >>> Residual(Linear(3, 3))(creation.ones(2, 3)).shape
    (2, 3)
    """

    is_residual = True

    def __init__(self, f: Module) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        """From x (...) to x + f(x), of the same shape."""
        return x + self.f(x)


class Dropout(Module):
    """In training each element becomes 0 with probability p, the others grow by 1 / (1 - p); in evaluation nothing.

    >>> layer = Dropout(p=0.1).eval()
    >>> layer(creation.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout(): p = {p}; a probability lies in [0, 1]")
        self.p = p

    def forward(self, input: Any) -> Tensor:
        """Any shape to the same shape."""
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class ReLU(Module):
    """y = max(x, 0)."""

    def forward(self, input: Any) -> Tensor:
        """Any shape to the same shape."""
        return F.relu(input)


class SiLU(Module):
    """y = x / (1 + e^-x), also called swish (Elfwing et al. 2018).

    >>> SiLU()(creation.tensor([-1000.0, 0.0, 1000.0]))
    tensor([  -0.,    0., 1000.])
    """

    def forward(self, input: Any) -> Tensor:
        """Any shape to the same shape."""
        return F.silu(input)


class GELU(Module):
    """y = x Phi(x), exact or with approximate="tanh" (Hendrycks and Gimpel 2016)."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Any) -> Tensor:
        """Any shape to the same shape."""
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        """The variant."""
        return f"approximate={self.approximate!r}"


class Tanh(Module):
    """y = tanh x."""

    def forward(self, input: Any) -> Tensor:
        """Any shape to the same shape."""
        return F.tanh(input)


class Sigmoid(Module):
    """y = 1 / (1 + e^-x)."""

    def forward(self, input: Any) -> Tensor:
        """Any shape to the same shape."""
        return F.sigmoid(input)


class Identity(Module):
    """y = x."""

    def forward(self, input: Any) -> Any:
        """Return the input."""
        return input


# ----------------------------------------------------------------------------------------------------------- containers
class _Numbered(Module):
    """Modules by number: what Sequential and ModuleList share."""

    def add_module(self, name: str, module: Module | None) -> None:
        """Put a module under a number, as a string."""
        if module is None:
            raise TypeError(f"{type(self).__name__}: None is not a module; use Identity() for one that does nothing")
        super().add_module(name, module)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put a module before number `index`; those behind it are renumbered."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)

    def _renumber(self, modules: list[Module]) -> None:
        for name, _ in self._own(Module):
            delattr(self, name)
        self.extend(modules)

    def __len__(self) -> int:
        return len(self._own(Module))

    def __iter__(self) -> Iterator[Any]:
        return (module for _, module in self._own(Module))

    def __getitem__(self, index: Any) -> Any:
        return self._slice(index) if isinstance(index, slice) else self._own(Module)[index][1]

    def _slice(self, index: slice) -> Module:
        raise NotImplementedError(f"{type(self).__name__} does not say what a slice of it is")

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._own(Module)[index][0], module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._renumber(modules)


class Sequential(_Numbered):
    """Modules one after the other: Sequential(f, g)(x) = g(f(x)). A dict of modules gives them names.

    >>> model = Sequential(Linear(3, 4), ReLU(), Linear(4, 2))
    >>> model
    Sequential(
      (0): Linear(in_features=3, out_features=4, bias=True)
      (1): ReLU()
      (2): Linear(in_features=4, out_features=2, bias=True)
    )
    >>> model(creation.ones(5, 3)).shape
    (5, 2)
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        first = modules[0] if modules else None
        named: Any = first.items() if isinstance(first, Mapping) else enumerate(modules)
        for name, module in named:
            self.add_module(str(name), module)

    def _slice(self, index: slice) -> Sequential:
        return Sequential(dict(self._own(Module)[index]))  # as in PyTorch, the modules keep their names

    def forward(self, input: Any) -> Any:
        """What the last module makes of what the one before it made, and so on."""
        for module in self:
            input = module(input)
        return input


class ModuleList(_Numbered):
    """A list whose modules belong to the model. It has no forward: loop over it.

    >>> layers = ModuleList(Linear(2, 2) for _ in range(3))
    >>> len(layers), [name for name, _ in layers[1:].named_parameters()]
    (3, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def _slice(self, index: slice) -> ModuleList:
        return ModuleList(list(self)[index])


class ModuleDict(Module):
    """A dict whose modules belong to the model. It has no forward.

    >>> acts = ModuleDict({"relu": ReLU(), "tanh": Tanh()})
    >>> list(acts), acts["relu"]
    (['relu', 'tanh'], ReLU())
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules by name, in the order given."""
        for name, module in dict(modules).items():
            self[name] = module

    def __getitem__(self, key: str) -> Any:
        return dict(self._own(Module))[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        delattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        """The names."""
        return [name for name, _ in self._own(Module)]

    def values(self) -> list[Module]:
        """The modules."""
        return [module for _, module in self._own(Module)]

    def items(self) -> list[tuple[str, Module]]:
        """(name, module)."""
        return self._own(Module)
