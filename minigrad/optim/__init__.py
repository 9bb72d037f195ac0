"""Optimisers and learning-rate schedules. Names as in torch.optim."""

from ..nn.utils import clip_grad_norm_
from . import lr_scheduler
from .adam import Adam, AdamW
from .optimizer import Optimizer
from .sgd import SGD
