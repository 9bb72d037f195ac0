"""PyTorch, which the project is compared with: the only file that imports it."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minitransformer import MultiHeadAttention, Transformer

TOLERANCE = 1e-9


def torch() -> Any:
    """The module; the test is skipped where it is not installed."""
    return pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed: pip install torch==2.13.0")


# ------------------------------------------------------------------------------------------------------- comparing
def error(ours: Any, theirs: Any, scale: float = 0.0) -> float:
    """The largest difference, relative to the largest number of theirs, or to `scale` if that is larger."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        return np.inf
    size = max(np.abs(theirs).max(initial=0.0), scale, np.finfo(float).tiny)
    difference = np.abs(ours - theirs).max(initial=0.0) / size
    return difference if np.isfinite(difference) else np.inf


def first_difference(ours: dict[str, Any], theirs: dict[str, Any], scale: float = 0.0) -> str:
    """The first of our values, in their order, that is not theirs, by name; empty if all agree."""
    assert ours, "there is nothing to compare"
    assert set(theirs) <= set(ours), f"we have no {sorted(set(theirs) - set(ours))}"
    for name in [name for name in ours if name in theirs]:
        if (difference := error(ours[name], theirs[name], scale)) > TOLERANCE:
            return f"{name}: relative error {difference:.2g}"
    return ""


# --------------------------------------------------------------------------------------------------- the same weights
THEIR_NAMES = {
    ".cross_attn.": ".multihead_attn.",
    ".ffn.linear": ".linear",
    ".add_norm1.norm.": ".norm1.",
    ".add_norm2.norm.": ".norm2.",
    ".add_norm3.norm.": ".norm3.",
}


def their_name(name: str) -> tuple[str, int | None]:
    """What a parameter of ours is called in nn.Transformer, and which third of it it is: theirs are q, k and v in one.

    For attentions alone the same without the path.
    """
    for part, their_part in THEIR_NAMES.items():
        name = name.replace(part, their_part)
    for third, projection in enumerate(("q_proj", "k_proj", "v_proj")):
        if f"{projection}." in name:
            return name.replace(f"{projection}.", "in_proj_"), third
    return name, None


def their_part(name: str, theirs: dict[str, Any]) -> Any:
    """The tensor, or the third of one, in `theirs` that corresponds to our parameter `name`."""
    their, third = their_name(name)
    return theirs[their] if third is None else theirs[their].chunk(3)[third]


def copy_parameters(ours: mg.nn.Module, theirs: Any) -> None:
    """Give `theirs` the values of `ours`; every parameter of theirs must get one."""
    parameters = dict(theirs.named_parameters())
    missing = {name: p.numel() for name, p in parameters.items()}
    with torch().no_grad():
        for name, parameter in ours.named_parameters():
            if their_name(name)[0] in parameters:
                their_part(name, parameters).copy_(torch().from_numpy(parameter.data))
                missing[their_name(name)[0]] -= parameter.numel()
    assert not any(missing.values()), f"not everything got a value: {missing}"


def gradients(theirs: Any, ours: mg.nn.Module) -> dict[str, Any]:
    """The gradients of `theirs` by our names."""
    grads = {name: p.grad for name, p in theirs.named_parameters()}
    names = [name for name, _ in ours.named_parameters() if their_name(name)[0] in grads]
    return {name: their_part(name, grads).numpy() for name in names}


def our_gradients(model: mg.nn.Module) -> dict[str, np.ndarray]:
    return {name: p.grad.data for name, p in model.named_parameters()}


# ------------------------------------------------------------------------------------------------------- their models
def attention(ours: MultiHeadAttention) -> Any:
    """Their nn.MultiheadAttention with our weights."""
    bias = ours.q_proj.bias is not None
    inner = ours.nhead * ours.head_dim
    theirs = torch().nn.MultiheadAttention(inner, ours.nhead, bias=bias, batch_first=True, dtype=torch().float64)
    copy_parameters(ours, theirs)
    return theirs


class TheirTransformer:
    """PyTorch's nn.Transformer with our weights; embeddings, positions and output layer around it by hand.

    `taps` holds, after a run, what corresponds to our taps, by our names.
    """

    def __init__(self, ours: Transformer) -> None:
        nn, config = torch().nn, ours.config
        self.config = config
        self.taps: dict[str, Any] = {}
        layer = {
            "d_model": config.d_model,
            "nhead": config.nhead,
            "dim_feedforward": config.dim_feedforward,
            "dropout": 0.0,
            "activation": config.activation,
            "layer_norm_eps": config.layer_norm_eps,
            "batch_first": True,
            "norm_first": config.norm_first,
            "bias": config.bias,
            "dtype": torch().float64,
        }

        def norm() -> Any:
            if not config.ends_with_norm:
                return None
            return nn.LayerNorm(config.d_model, eps=config.layer_norm_eps, bias=config.bias, dtype=torch().float64)

        encoder_layer, decoder_layer = nn.TransformerEncoderLayer(**layer), nn.TransformerDecoderLayer(**layer)
        encoder = nn.TransformerEncoder(encoder_layer, config.num_encoder_layers, norm(), enable_nested_tensor=False)
        decoder = nn.TransformerDecoder(decoder_layer, config.num_decoder_layers, norm())
        self.core = nn.Transformer(
            config.d_model, config.nhead, custom_encoder=encoder, custom_decoder=decoder, batch_first=True
        )
        copy_parameters(ours, self.core)
        self.around = {
            name: torch().tensor(parameter.data, requires_grad=True)
            for name, parameter in ours.named_parameters()
            if not name.startswith(("encoder.layers", "decoder.layers", "encoder.norm", "decoder.norm"))
        }
        for side in (encoder, decoder):
            for number, module in enumerate(side.layers):
                self._listen("encoder" if side is encoder else "decoder", number, module)

    def _listen(self, side: str, number: int, layer: Any) -> None:
        path = f"{side}.layers.{number}"
        stream = ["resid_mid"] if side == "encoder" else ["resid_mid", "resid_mid_cross"]
        norms = [layer.norm1, layer.norm2] if side == "encoder" else [layer.norm1, layer.norm2, layer.norm3]
        for i, name in enumerate(stream):  # what comes out of this norm, or goes into the next one
            if self.config.norm_first:
                norms[i + 1].register_forward_pre_hook(self._keep_input(f"{path}.{name}"))
            else:
                norms[i].register_forward_hook(self._keep_output(f"{path}.{name}"))
        layer.register_forward_pre_hook(self._keep_input(f"{path}.resid_pre"))
        layer.register_forward_hook(self._keep_output(f"{path}.resid_post"))
        layer.linear1.register_forward_hook(self._keep_output(f"{path}.ffn.pre"))
        layer.linear2.register_forward_pre_hook(self._keep_input(f"{path}.ffn.post"))
        attentions = {"self_attn": layer.self_attn}
        if side == "decoder":
            attentions["cross_attn"] = layer.multihead_attn
        for name, attention in attentions.items():
            self._show_pattern(f"{path}.{name}", attention)

    def _keep_input(self, name: str) -> Any:
        return lambda module, inputs: self.taps.__setitem__(name, inputs[0].detach().numpy())

    def _keep_output(self, name: str) -> Any:
        return lambda module, inputs, output: self.taps.__setitem__(name, output.detach().numpy())

    def _show_pattern(self, path: str, attention: Any) -> None:
        """Their layers do not ask for the pattern; have it computed all the same."""
        forward = attention.forward

        def with_pattern(*inputs: Any, **settings: Any) -> Any:
            out, pattern = forward(*inputs, **settings | {"need_weights": True, "average_attn_weights": False})
            self.taps[f"{path}.pattern"], self.taps[f"{path}.out"] = pattern.detach().numpy(), out.detach().numpy()
            return out, pattern

        attention.forward = with_pattern

    def _embed(self, side: str, ids: Any) -> Any:
        config = self.config
        weights = {"src": ("src_embed.weight", "encoder.positions.weight")}
        weights["tgt"] = ("tgt_embed.weight", "decoder.positions.weight")
        table, positions = weights[side]
        table = self.around.get(table, self.around["src_embed.weight"])  # the target's, unless they are one
        x = torch().nn.functional.embedding(ids, table, padding_idx=config.pad_id)
        x = x * config.d_model**0.5 if config.scale_embedding else x
        if config.positions == "sinusoidal":
            return x + torch().tensor(sinusoids(ids.shape[1], config.d_model))
        return x + self.around[positions][: ids.shape[1]] if config.positions == "learned" else x

    def __call__(self, src: np.ndarray, tgt: np.ndarray) -> Any:
        config = self.config
        src_ids, tgt_ids = torch().from_numpy(src), torch().from_numpy(tgt)
        T = tgt.shape[1]
        out = self.core(
            self._embed("src", src_ids),
            self._embed("tgt", tgt_ids),
            tgt_mask=torch().ones(T, T, dtype=torch().bool).triu(1),  # theirs: True = blocked
            src_key_padding_mask=src_ids == config.pad_id,
            tgt_key_padding_mask=tgt_ids == config.pad_id,
            memory_key_padding_mask=src_ids == config.pad_id,
        )
        tied = self.around.get("tgt_embed.weight", self.around["src_embed.weight"])
        weight = self.around.get("generator.weight", tied)
        logits = torch().nn.functional.linear(out, weight, self.around.get("generator.bias"))
        self.taps["logits"] = logits.detach().numpy()
        return logits

    def gradients(self, ours: Transformer) -> dict[str, Any]:
        """All their gradients by our names."""
        return gradients(self.core, ours) | {name: p.grad.numpy() for name, p in self.around.items()}


def sinusoids(length: int, d_model: int) -> np.ndarray:
    """The paper's positions (section 3.5), number by number."""
    table = np.zeros((length, d_model))
    for pos in range(length):
        for i in range(d_model // 2):
            angle = pos / 10000 ** (2 * i / d_model)
            table[pos, 2 * i] = np.sin(angle)
            table[pos, 2 * i + 1] = np.cos(angle)
    return table
