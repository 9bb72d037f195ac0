"""The same training step in JAX: gradient and Adam in one compiled function, buffers donated, the fastest generator."""

from __future__ import annotations

import math
import os
from functools import partial
from typing import Any

if os.environ.get("OMP_NUM_THREADS") == "1" and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # XLA makes one thread for each processor that it may use

import jax
import jax.numpy as jnp
import numpy as np

from . import cases

jax.config.update("jax_default_prng_impl", "unsafe_rbg")

Tree = Any  # nested dicts and lists of arrays


def parameters(c: cases.Config) -> Tree:
    rng, d = np.random.default_rng(0), c.d_model

    def linear(inputs: int, outputs: int) -> Tree:
        bound = math.sqrt(6 / (inputs + outputs))
        weight = rng.uniform(-bound, bound, (inputs, outputs)).astype(np.float32)
        return {"weight": weight, "bias": np.zeros(outputs, np.float32)}

    def norm() -> Tree:
        return {"weight": np.ones(d, np.float32), "bias": np.zeros(d, np.float32)}

    def layer(decoder: bool) -> Tree:
        parts = {"self": {"qkv": linear(d, 3 * d), "out": linear(d, d)}}
        if decoder:
            parts["cross"] = {"q": linear(d, d), "kv": linear(d, 2 * d), "out": linear(d, d)}
        feed_forward = {"linear1": linear(d, c.feed_forward), "linear2": linear(c.feed_forward, d)}
        return parts | feed_forward | {"norms": [norm() for _ in range(3 if decoder else 2)]}

    def table() -> np.ndarray:
        return (rng.standard_normal((c.vocabulary, d)) * d**-0.5).astype(np.float32)

    tree = {
        "src": table(),
        "tgt": table(),
        "bias": np.zeros(c.vocabulary, np.float32),
        "encoder": [layer(False) for _ in range(c.layers)],
        "decoder": [layer(True) for _ in range(c.layers)],
    }
    return jax.tree.map(jnp.asarray, tree)


def linear(p: Tree, x: Any) -> Any:
    return x @ p["weight"] + p["bias"]


def layer_norm(p: Tree, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * p["weight"] + p["bias"]


class Model:
    """The forward pass; `key` makes the bits of dropout."""

    def __init__(self, c: cases.Config, dropout: float, key: Any) -> None:
        self.c, self.p = c, dropout
        self.keys = iter(jax.random.split(key, 7 * c.layers * 2 + 2))

    def drop(self, x: Any) -> Any:
        if self.p == 0:
            return x
        return jnp.where(jax.random.bernoulli(next(self.keys), 1 - self.p, x.shape), x / (1 - self.p), 0)

    def attention(self, p: Tree, x: Any, memory: Any, mask: Any) -> Any:
        if memory is None:
            q, k, v = jnp.split(linear(p["qkv"], x), 3, -1)
        else:
            q, (k, v) = linear(p["q"], x), jnp.split(linear(p["kv"], memory), 2, -1)
        q, k, v = (t.reshape(*t.shape[:2], self.c.heads, -1).swapaxes(1, 2) for t in (q, k, v))
        scores = jnp.where(mask, q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]), -1e9)
        z = self.drop(jax.nn.softmax(scores)) @ v
        return linear(p["out"], z.swapaxes(1, 2).reshape(x.shape))

    def layer(self, p: Tree, x: Any, mask: Any, memory: Any = None, memory_mask: Any = None) -> Any:
        x = layer_norm(p["norms"][0], x + self.drop(self.attention(p["self"], x, None, mask)))
        if memory is not None:
            x = layer_norm(p["norms"][1], x + self.drop(self.attention(p["cross"], x, memory, memory_mask)))
        inside = self.drop(jax.nn.relu(linear(p["linear1"], x)))
        return layer_norm(p["norms"][-1], x + self.drop(linear(p["linear2"], inside)))

    def logits(self, p: Tree, src: Any, tgt: Any) -> Any:
        c = self.c
        pe, scale = cases.positions(c.length, c.d_model), math.sqrt(c.d_model)
        src_mask = (src != cases.PAD)[:, None, None]
        tgt_mask = (tgt != cases.PAD)[:, None, None] & jnp.tril(jnp.ones((c.length, c.length), bool))
        x = self.drop(p["src"][src] * scale + pe)
        for layer in p["encoder"]:
            x = self.layer(layer, x, src_mask)
        y = self.drop(p["tgt"][tgt] * scale + pe)
        for layer in p["decoder"]:
            y = self.layer(layer, y, tgt_mask, x, src_mask)
        return y @ p["tgt"].T + p["bias"]


class Step:
    """Forward, loss, backward, Adam."""

    def __init__(self, config: dict[str, int], dropout: float) -> None:
        c = cases.Config(**config)
        p = parameters(c)
        self.state = p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.int32(0)
        self.tokens = [jnp.asarray(t.astype(np.int32)) for t in c.tokens()]
        self.key = jax.random.key(0)
        lr, (b1, b2), eps = (cases.ADAM[name] for name in ("lr", "betas", "eps"))

        def loss(p: Tree, key: Any, src: Any, tgt: Any, target: Any) -> Any:
            log_p = jax.nn.log_softmax(Model(c, dropout, key).logits(p, src, tgt))
            chosen = jnp.take_along_axis(log_p, target[..., None], -1)[..., 0]
            each = -(1 - cases.SMOOTHING) * chosen - cases.SMOOTHING * log_p.mean(-1)
            counts = target != cases.PAD
            return jnp.where(counts, each, 0).sum() / counts.sum()

        @partial(jax.jit, donate_argnums=(0, 1, 2, 3))
        def train(p: Tree, m: Tree, v: Tree, t: Any, key: Any, src: Any, tgt: Any, target: Any) -> Any:
            gradient = jax.grad(loss)(p, jax.random.fold_in(key, t), src, tgt, target)
            t = t + 1
            m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, gradient)
            v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, gradient)
            step, root = lr / (1 - b1**t), jnp.sqrt(1 - b2**t)
            p = jax.tree.map(lambda p, m, v: p - step * m / (jnp.sqrt(v) / root + eps), p, m, v)
            return p, m, v, t

        self.train = train

    def __call__(self) -> None:
        self.state = self.train(*self.state, self.key, *self.tokens)
        jax.block_until_ready(self.state)


job = Step
