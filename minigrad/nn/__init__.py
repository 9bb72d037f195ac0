"""Layers and what they are made of. Names as in torch.nn."""

from . import functional, init, utils
from .layers import (
    GELU,
    Dropout,
    Embedding,
    Identity,
    LayerNorm,
    Linear,
    ModuleDict,
    ModuleList,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)
from .listen import Seen, as_made, capture, may_fuse, patch, tap_names
from .module import Module, Parameter
