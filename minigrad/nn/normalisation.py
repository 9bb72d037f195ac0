"""Layers that standardise their input: over a vector's elements, or over a batch. Arguments as in torch.nn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import creation
from ..arguments import unwrap
from ..tensor import Tensor
from . import functional as F
from . import init
from .layers import check_sizes
from .module import Module, Parameter


class LayerNorm(Module):
    """y = w (x - mean) / sqrt(variance + eps) + b over the last dimension, of size `normalized_shape` (Ba et al. 2016).

    w starts at 1, b at 0; `elementwise_affine=False` leaves out both, `bias=False` leaves out b.

    >>> layer = LayerNorm(4)
    >>> layer(creation.tensor([0.0, 0.0, 2.0, 2.0]))
    tensor([-0.999995, -0.999995,  0.999995,  0.999995], op=layer_norm)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.normalized_shape = (F.one_size(normalized_shape),)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        shape, shift = self.normalized_shape, elementwise_affine and bias
        self.register_parameter("weight", Parameter(creation.ones(shape)) if elementwise_affine else None)
        self.register_parameter("bias", Parameter(creation.zeros(shape)) if shift else None)

    def reset_parameters(self) -> None:
        """Back to w = 1, b = 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Any) -> Tensor:
        """Input (..., D) to the same shape."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(Module):
    """y = w x / sqrt(mean(x^2) + eps) over the last dimensions, `normalized_shape` (Zhang and Sennrich 2019).

    LayerNorm without the mean and the shift. w starts at 1; `elementwise_affine=False` leaves it out. With eps = None
    it is the distance from 1 to the next number of the input's dtype, as in PyTorch.

    >>> layer = RMSNorm(3, eps=1.0)
    >>> layer(creation.tensor([0.0, 0.0, 3.0]))  # 3 / sqrt(9/3 + 1)
    tensor([0. , 0. , 1.5], op=mul)
    """

    weight: Parameter | None

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True
    ) -> None:
        super().__init__()
        self.normalized_shape = F.last_sizes(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        weight = Parameter(creation.ones(self.normalized_shape)) if elementwise_affine else None
        self.register_parameter("weight", weight)

    def reset_parameters(self) -> None:
        """Back to w = 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Any) -> Tensor:
        """Input (..., *normalized_shape) to the same shape."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """The settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class BatchNorm1d(Module):
    """y = w (x - mean) / sqrt(variance + eps) + b for each of `num_features` channels (Ioffe and Szegedy 2015).

    In training, mean and variance are those of the batch, and the buffers running_mean and running_var follow them by
    the share `momentum` (None: they are the averages of all batches so far), the variance unbiased; in evaluation they
    are these buffers. Without `track_running_stats` there are none, and the batch decides in evaluation too. w starts
    at 1, b at 0; `affine=False` leaves out both. See `functional.batch_norm` for the `mask` and for what is raised.

    >>> layer = BatchNorm1d(1)
    >>> layer(creation.tensor([[2.0], [4.0], [99.0]]), mask=creation.tensor([True, True, False])).flatten()[:2]
    tensor([-0.999995,  0.999995], op=index)
    >>> layer.running_mean, layer.num_batches_tracked.item()
    (tensor([0.3]), 1)
    """

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        check_sizes("BatchNorm1d", num_features=num_features)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.register_parameter("weight", Parameter(creation.ones(num_features)) if affine else None)
        self.register_parameter("bias", Parameter(creation.zeros(num_features)) if affine else None)
        self.register_buffer("running_mean", creation.zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", creation.ones(num_features) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", creation.tensor(0) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Back to mean 0, variance 1, and no batch seen."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Back to w = 1, b = 0, and the running statistics to their start."""
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, input: Any, mask: Any = None) -> Tensor:
        """Input (N, C) or (N, C, L), and a mask (N) or (N, L), to the shape of the input."""
        seen = self.num_batches_tracked if self.training else None
        momentum = self.momentum
        if momentum is None:
            momentum = 0.0 if seen is None else 1 / (seen.item() + 1)
        y = F.batch_norm(
            *(input, self.running_mean, self.running_var, self.weight, self.bias),
            training=self.training or self.running_mean is None,
            momentum=momentum,
            eps=self.eps,
            mask=mask,
        )
        if seen is not None and (mask is None or unwrap(mask).any()):
            seen += 1
        return y

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )
