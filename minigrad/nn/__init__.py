"""Layers and what they are made of. Names as in torch.nn."""

from . import functional, init, utils
from .layers import (
    GELU,
    Dropout,
    Embedding,
    Identity,
    Linear,
    ModuleDict,
    ModuleList,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
)
from .listen import Seen, as_made, capture, may_fuse, patch, tap_names
from .module import Module, Parameter
from .normalisation import BatchNorm1d, LayerNorm, RMSNorm
from .recurrent import GRU, GRUCell
