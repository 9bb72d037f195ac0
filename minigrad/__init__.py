"""minigrad: reverse-mode automatic differentiation on NumPy, with Numba kernels. Names as in PyTorch.

>>> import minigrad as mg
>>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
>>> (x @ x).sum().backward()
>>> x.grad
tensor([[ 7., 11.],
        [ 9., 13.]])
"""

from typing import Any

import numpy as np

from . import creation, kernels, nn, ops, optim, random, torchfile
from .checkpoint import load, save
from .core import DTypeError, GradError, ShapeError, enable_grad, is_grad_enabled, no_grad
from .creation import (
    arange,
    cat,
    empty,
    eye,
    flip,
    from_numpy,
    full,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    randperm,
    roll,
    softmax,
    stack,
    tril,
    triu,
    zeros,
    zeros_like,
)
from .draw import graph
from .kernels import get_num_threads, set_num_threads
from .memory import keep_freed_memory
from .ops import (
    abs,
    cos,
    erf,
    exp,
    log,
    matmul,
    maximum,
    minimum,
    pow,
    relu,
    sigmoid,
    sin,
    split,
    sqrt,
    tanh,
    where,
)
from .random import manual_seed
from .tensor import Tensor
from .trace import AnomalyError, compare, detect_anomaly, record
from .version import __version__

tensor = creation.tensor  # once more: for a type checker, the name is that of the module in the lines above
float32, float64, int32, int64 = np.float32, np.float64, np.int32, np.int64
uint8, bool_, long, float, double = np.uint8, np.bool_, np.int64, np.float32, np.float64

keep_freed_memory()
