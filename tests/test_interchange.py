"""Parameters go to PyTorch's modules and come back, bit for bit, and both compute the same with them."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minitransformer import MultiHeadAttention, Positions, Transformer
from minitransformer.interchange import from_torch, places, to_torch
from minitransformer.layers import PreNorm
from tests import oracle
from tests.models import small_config, small_model

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # PyTorch's, about what it cannot hasten

VARIANTS = {
    "post-norm": {"final_norm": True},
    "pre-norm": {"norm_first": True},
    "gelu": {"final_norm": True, "activation": "gelu"},
    "no bias": {"final_norm": True, "bias": False},
    "learned, tied": {"final_norm": True, "positions": "learned", "tie_weights": True, "tgt_vocab_size": None},
    "uneven": {"final_norm": True, "num_encoder_layers": 1, "num_decoder_layers": 3, "nhead": 4},
}
PARTS = ["", "encoder", "decoder", "encoder.layers.0", "decoder.layers.1", "decoder.layers.0.cross_attn"]


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def ours(request) -> Transformer:
    mg.manual_seed(0)
    return small_model(**{"num_decoder_layers": 2} | request.param)


def part_of(module: Any, path: str) -> Any:
    return dict(module.named_modules())[path]


def counterpart(config: Any) -> Any:
    torch = oracle.torch()
    return torch.nn.Transformer(
        d_model=config.d_model,
        nhead=config.nhead,
        num_encoder_layers=config.num_encoder_layers,
        num_decoder_layers=config.num_decoder_layers,
        dim_feedforward=config.dim_feedforward,
        dropout=0.0,
        activation=config.activation,
        layer_norm_eps=config.layer_norm_eps,
        batch_first=True,
        norm_first=config.norm_first,
        bias=config.bias,
        dtype=torch.float64,
    )


def shaken(theirs: Any, rng: np.random.Generator) -> Any:
    """With other values everywhere, norms and biases included."""
    with oracle.torch().no_grad():
        for parameter in theirs.parameters():
            parameter += 0.3 * oracle.torch().from_numpy(rng.standard_normal(parameter.shape))
    return theirs


def assert_computes_the_same(ours: Any, theirs: Any, path: str, rng: np.random.Generator) -> None:
    torch = oracle.torch()
    x, memory = rng.standard_normal((2, 3, 8)), rng.standard_normal((2, 5, 8))
    a, b = (mg.tensor(x), mg.tensor(memory)), (torch.from_numpy(x), torch.from_numpy(memory))
    positions = Positions()
    mine, their = {
        "": (lambda: ours.decoder(a[0], ours.encoder(a[1])), lambda: theirs(b[1], b[0])),
        "encoder": (lambda: ours(a[0]), lambda: theirs(b[0])),
        "decoder": (lambda: ours(*a), lambda: theirs(*b)),
        "encoder.layers.0": (lambda: ours(a[0], None, positions), lambda: theirs(b[0])),
        "decoder.layers.1": (lambda: ours(*a, None, None, positions, positions), lambda: theirs(*b)),
        "decoder.layers.0.cross_attn": (lambda: ours(a[0], a[1], a[1]), lambda: theirs(b[0], b[1], b[1])[0]),
    }[path]
    np.testing.assert_allclose(mine().detach().numpy(), their().detach().numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", PARTS)
def test_to_pytorch(ours, path, rng):
    torch = oracle.torch()
    theirs = part_of(counterpart(ours.config), path.replace("cross_attn", "multihead_attn"))
    mine = part_of(ours, path)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(mine).items()}, strict=True)
    assert_computes_the_same(mine, theirs, path, rng)


@pytest.mark.parametrize("path", PARTS)
def test_from_pytorch(ours, path, rng):
    theirs = shaken(part_of(counterpart(ours.config), path.replace("cross_attn", "multihead_attn")), rng)
    mine = part_of(ours, path)
    from_torch(mine, theirs.state_dict())
    assert_computes_the_same(mine, theirs, path, rng)


@pytest.mark.parametrize("path", PARTS)
def test_there_and_back_again(ours, path):
    other = small_model(**{**ours.config.to_dict()})
    before = {name: tensor.numpy().copy() for name, tensor in other.state_dict().items()}
    from_torch(part_of(other, path), to_torch(part_of(ours, path)))
    moved = {f"{path}.{name}".strip(".") for names in places(part_of(ours, path)).values() for name in names}
    for name, tensor in other.state_dict().items():  # all others are as they were
        expected = ours.state_dict()[name].numpy() if name in moved else before[name]
        assert tensor.numpy().tobytes() == expected.tobytes(), name


def test_what_is_outside(ours):
    inside = {name for names in places(ours).values() for name in names}
    outside = {name.rpartition(".")[0] for name in ours.state_dict() if name not in inside}
    assert outside <= {"src_embed", "tgt_embed", "generator", "encoder.positions", "decoder.positions"}
    assert {"src_embed", "tgt_embed", "generator"} <= outside


def test_the_names_are_those_that_the_oracle_found_for_itself():
    model = small_model(final_norm=True)
    for theirs, names in places(model).items():
        assert {oracle.their_name(name)[0] for name in names} == {theirs}
        assert [oracle.their_name(name)[1] for name in names] in ([0, 1, 2], [None])


def test_what_is_given_away_is_a_copy():
    module = MultiHeadAttention(4, 2)
    to_torch(module)["out_proj.weight"][:] = 7.0
    assert not (module.out_proj.weight.detach().numpy() == 7.0).any()


def test_float32_stays_float32():
    module = MultiHeadAttention(4, 2)
    assert {array.dtype for array in to_torch(module).values()} == {np.dtype("float32")}
    from_torch(module, to_torch(MultiHeadAttention(4, 2).double()))
    assert module.q_proj.weight.dtype == np.float32


def test_everything_that_does_not_fit_is_listed():
    layer = small_model().encoder.layers[0]
    before = to_torch(layer)
    state = to_torch(layer)
    del state["linear2.bias"]
    state |= {"norm3.weight": np.ones(8), "self_attn.in_proj_weight": np.ones((8, 8)), "linear1.bias": np.ones((12, 1))}
    with pytest.raises(RuntimeError) as error:
        from_torch(layer, state)
    assert str(error.value).splitlines() == [
        "from_torch(): the state does not fit the EncoderLayer",
        "  missing: linear2.bias",
        "  unexpected: norm3.weight",
        "  shape of self_attn.in_proj_weight: (8, 8) in the state, (24, 8) in the module",
        "  shape of linear1.bias: (12, 1) in the state, (12,) in the module",
    ]
    with pytest.raises(RuntimeError, match=r"dtype of ffn\.linear1\.bias: complex128 in the state"):
        from_torch(layer, before | {"linear1.bias": np.ones(12, complex)})
    for name, array in to_torch(layer).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share_qk": True}, r"encoder.layers.0.self_attn has one projection .*share_qk"),
        ({"head_dim": 3}, "has a head_dim of 3, which is not d_model / nhead; PyTorch's has not"),
        ({"attention": "additive"}, "encoder.layers.0.self_attn has Additive scores"),
        ({"attention_scale": "none"}, "self_attn has scores times 1, which is not 1 / sqrt"),
        ({"residual": False}, "encoder.layers.0.add_norm1 has no residual connection"),
        ({"norm": "none"}, "encoder.layers.0.add_norm1 has the norm Identity"),
        ({"norm": "rms"}, "encoder.layers.0.add_norm1 has the norm RMSNorm"),
        ({"activation": "swiglu"}, "encoder.layers.0 has the feed-forward network SwiGLU"),
        ({"activation": "none"}, "encoder.layers.0 has no feed-forward network; PyTorch's has not"),
        ({"positions": "rotary"}, "encoder.positions has Rotary positions, which work inside attention"),
        ({"positions": "relative"}, "encoder.positions has PerLayer positions"),
        ({"positions": "t5"}, "encoder.positions has T5.* positions"),
        ({"positions": "alibi"}, "encoder.positions has ALiBi positions"),
    ],
)
def test_what_pytorch_does_not_have(changes, message):
    model = small_model(**changes)
    with pytest.raises(ValueError, match=message):
        to_torch(model)
    with pytest.raises(ValueError, match=message):
        from_torch(model, {})


class Doubled(mg.nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


def set_nhead(attention: MultiHeadAttention) -> None:
    attention.nhead, attention.head_dim = 4, 2
    attention.score = MultiHeadAttention(8, 4).score


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        *(
            (
                f"encoder.layers.1.self_attn.{name}",
                {"bias": None},
                r"1\.self_attn has biases on some of its projections",
            )
            for name in ("q_proj", "k_proj", "v_proj", "out_proj")
        ),
        *(
            (f"decoder.layers.0.cross_attn.{name}", Doubled(8, 8), r"0\.cross_attn has projections .* just a Linear")
            for name in ("q_proj", "k_proj", "v_proj", "out_proj")
        ),
        ("encoder.layers.0.self_attn.q_proj", {"forward": abs}, "has projections that are not all just a Linear"),
        ("encoder.layers.1.ffn.linear1", Doubled(8, 12), r"1\.ffn has layers that are not all just a Linear"),
        ("encoder.layers.1.ffn.linear2", Doubled(12, 8), r"1\.ffn has layers that are not all just a Linear"),
        ("encoder.layers.1.self_attn", set_nhead, r"Transformer has layers with different numbers of heads \(2, 4\)"),
        ("encoder.layers.1.ffn.activation", mg.nn.GELU(), r"Transformer has .* different activations \(GELU, ReLU\)"),
        (
            "decoder.layers.0.add_norm3.norm",
            {"eps": 0.5},
            r"Transformer has .* different eps of the norms \(1e-05, 0.5",
        ),
        ("encoder.layers.0.add_norm1", PreNorm(small_config()), "places of the norms .AddNorm, PreNorm"),
    ],
)
def test_what_has_been_exchanged_in_one_layer(path, change, message):
    model = small_model(num_encoder_layers=2)
    places(model)
    parent, _, name = path.rpartition(".")
    if callable(change) and not isinstance(change, mg.nn.Module):
        change(part_of(model, path))
    elif isinstance(change, dict):
        for attribute, value in change.items():
            setattr(part_of(model, path), attribute, value)
    else:
        setattr(part_of(model, parent), name, change)
    with pytest.raises(ValueError, match=message):
        to_torch(model)
    with pytest.raises(ValueError, match=message):
        from_torch(model, {})


def test_other_modules_have_no_counterpart():
    with pytest.raises(TypeError, match=r"got a Linear, of which PyTorch has no counterpart\. Give one of Tr"):
        to_torch(mg.nn.Linear(2, 2))


def test_the_module_itself_is_not_its_state():
    with pytest.raises(TypeError, match=r"from_torch\(\): the state is a MultiHeadAttention; give its state_dict\(\)"):
        from_torch(MultiHeadAttention(4, 2), MultiHeadAttention(4, 2))  # pyright: ignore[reportArgumentType]
