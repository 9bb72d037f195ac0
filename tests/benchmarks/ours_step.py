"""A training step of ours, through the public interface."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import core
from minigrad.kernels import threads
from minitransformer import Transformer, TransformerConfig

from . import cases, script


class Step:
    """Forward, loss, backward, Adam; with `record`, the settings of a recording, inside of one."""

    def __init__(
        self, config: dict[str, int], dropout: float, record: dict[str, str] | None = None, definitions: bool = False
    ) -> None:
        self.record, self.definitions = record, definitions
        c = cases.Config(**config)
        mg.manual_seed(0)
        self.model = Transformer(
            TransformerConfig(
                src_vocab_size=c.vocabulary,
                tgt_vocab_size=c.vocabulary,
                d_model=c.d_model,
                nhead=c.heads,
                num_encoder_layers=c.layers,
                num_decoder_layers=c.layers,
                dim_feedforward=c.feed_forward,
                dropout=dropout,
                activation_dropout=dropout,  # as the peers do
                tie_weights=True,
            )
        )
        self.optimizer = mg.optim.Adam(self.model.parameters(), **cases.ADAM)
        self.src, self.tgt, self.target = c.tokens()

    def loss(self) -> mg.Tensor:
        logits = self.model(self.src, self.tgt)
        return mg.ops.cross_entropy(logits, self.target, ignore_index=cases.PAD, label_smoothing=cases.SMOOTHING)

    def __call__(self) -> None:
        with ExitStack() as stack:
            if self.record is not None:
                stack.enter_context(mg.record(self.model, **self.record))
            elif self.definitions:
                stack.enter_context(core.definitions())
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
        self.optimizer.step()

    def loss_and_norm(self) -> tuple[float, float]:
        """The loss as it is now, and the length of its gradient."""
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        gradients = [p.grad.data for p in self.model.parameters() if p.grad is not None]
        return loss.item(), sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients) ** 0.5

    def save(self, path: str) -> None:
        """Write all weights, for a peer to start from the same."""
        weights: dict[str, Any] = {name: p.data for name, p in self.model.named_parameters()}
        np.savez(path, **weights)

    def kernel_time(self, steps: int) -> dict[str, float]:
        """Per step: seconds, seconds in kernels, calls of kernels. The clock around each call makes it all slower."""
        call, spent, calls = threads.Kernel.__call__, 0.0, 0

        def timed(*arguments: Any) -> None:
            nonlocal spent, calls
            start = time.perf_counter()
            call(*arguments)
            spent += time.perf_counter() - start
            calls += 1

        threads.Kernel.__call__ = timed  # pyright: ignore[reportAttributeAccessIssue]
        try:
            self()
            spent, calls, start = 0.0, 0, time.perf_counter()
            for _ in range(steps):
                self()
            wall = time.perf_counter() - start
        finally:
            threads.Kernel.__call__ = call
        return {"seconds": wall / steps, "kernels": spent / steps, "calls": calls / steps}

    def peak_memory(self) -> int:
        return script.peak_memory()


job = Step

if __name__ == "__main__":
    script.main(Step)
