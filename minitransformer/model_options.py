"""What to train, as options of the command line: which model, and its settings."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .layers import FEED_FORWARDS, NORMS
from .positions import POSITIONS
from .runs import ARCHITECTURES
from .scores import ATTENTIONS, SCALES

# The options that each model has; `--layers` sets the fields in LAYERS.
MODEL_OPTIONS = {
    "transformer": (
        *(
            "d_model",
            "nhead",
            "layers",
            "dim_feedforward",
            "dropout",
            "activation_dropout",
            "norm_first",
            "tie_weights",
        ),
        *("positions", "max_len", "cross_positions", "attention", "attention_scale", "head_dim", "share_qk"),
        *("norm", "activation", "residual", "bias", "scale_embedding"),
    ),
    "gru": ("d_model", "hidden_size", "attention_size", "layers", "dropout"),
}
LAYERS = {"transformer": ("num_encoder_layers", "num_decoder_layers"), "gru": ("num_layers",)}


def option(help: str, *names: str, **settings: Any) -> Any:
    """Describe an option of the model."""
    return typer.Option(*names, help=help, rich_help_panel="Model", **settings)


def choice(what: str, names: Any) -> Any:
    """Describe an option that is one of `names`."""
    return option(f"{what}: {', '.join(names)}.", metavar="NAME")


def number(text: str) -> str | float:
    """A number where the text is one, else the text."""
    try:
        return float(text)
    except ValueError:
        return text


Model = Annotated[str, choice("What is to learn", ARCHITECTURES)]
DModel = Annotated[int, option("Width of the model, of a gru its embeddings.", min=1)]
Heads = Annotated[int, option("Attention heads; they share d_model.", min=1)]
HeadDim = Annotated[int | None, option("Size of a head.", min=1, show_default="d_model / nhead")]
Layers = Annotated[
    int | None, option("Layers of the encoder, and of the decoder.", min=1, show_default="2, of a gru 1")
]
DimFeedforward = Annotated[int, option("Width inside the feed-forward layers.", min=1)]
HiddenSize = Annotated[int, option("Size of a gru's states.", min=1)]
AttentionSize = Annotated[int, option("Size inside the attention of a gru.", min=1)]
Dropout = Annotated[float, option("Share of values dropped in training.", min=0, max=0.99)]
ActivationDropout = Annotated[float, option("The same inside the feed-forward layers.", min=0, max=0.99)]
NormFirst = Annotated[bool, option("Normalise before each sublayer, not after.", "--norm-first")]
TieWeights = Annotated[bool, option("Let the output layer share the target's embedding.", "--tie-weights")]
Positions = Annotated[
    str,
    choice("How tokens know their places; where source and target match by place, see --cross-positions", POSITIONS),
]
MaxLen = Annotated[int, option("Places that learned, sinusoidal_init and axial positions have.", min=1)]
CrossPositions = Annotated[
    bool, option("Relative, rotary, alibi ... positions between source and target, too.", "--cross-positions")
]
Attention = Annotated[str, choice("How scores are made", ATTENTIONS)]
AttentionScale = Annotated[
    str, option(f"What scores are multiplied by: {', '.join(SCALES)} or a number.", metavar="NAME|X", parser=number)
]
ShareQK = Annotated[bool, option("One projection for queries and keys.", "--share-qk")]
Norm = Annotated[str, choice("What normalises", NORMS)]
Activation = Annotated[str, choice("In the feed-forward layers; none leaves them out", FEED_FORWARDS)]
Residual = Annotated[bool, option("x + f(x), not f(x) only.", "--residual/--no-residual")]
Bias = Annotated[bool, option("Linear layers and norms have a bias.", "--bias/--no-bias")]
ScaleEmbedding = Annotated[bool, option("Embeddings times sqrt(d_model).", "--scale-embedding/--no-scale-embedding")]
