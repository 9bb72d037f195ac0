"""ANARCII (Greenshields-Watson et al. 2025): which place every residue of an antigen receptor has in the IMGT scheme.

Antibodies and T-cell receptors are proteins, chains of twenty kinds of residues, each written as a letter. They all
have the same fold, but loops of different lengths, so that residues are compared by the number of their place, 1 to 128
in the IMGT scheme, and not by counting. The model reads the letters and writes the kind of chain and then a label for
every residue: its number, "X" for one more than the scheme has numbers for (an insertion, numbered by its neighbours),
or "<SKIP>" for one outside of the domain. The package makes more of these labels than is done here: it finds domains in
long proteins, names insertions and judges the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import minigrad as mg

from ..batching import pad
from ..checks import check_texts
from ..config import TransformerConfig
from ..decoding import greedy
from ..interchange import from_torch
from ..model import Transformer
from ..vocab import BOS, EOS, PAD
from .installed import folder_of

REQUIREMENT = "anarcii==2.0.8"

LETTERS = "ACDEFGHIKLMNPQRSTVWXY"  # X: any residue; in the vocabulary after the four special tokens
UNUSUAL = str.maketrans(dict.fromkeys("BOJUZ", "X"))  # as in the package
SPECIAL = ["<PAD>", "<SOS>", "<EOS>", "<SKIP>"]  # the first three as ours
CHAINS = {"antibody": "HLK", "shark": "HLK", "tcr": "ABGD"}
LAYERS = {"antibody": (1, 2), "shark": (2,), "tcr": (1, 2)}
MAX_LEN = 210

THEIR_NAMES = {  # in nn.Transformer, of ANARCII's parameters
    "self_attention.multihead_attn.": "self_attn.",
    "encoder_attention.multihead_attn.": "multihead_attn.",
    "positionwise_feedforward.fc_": "linear",
    "self_attn_layer_norm.": "norm1.",
    "enc_attn_layer_norm.": "norm2.",
}


class Numbering(NamedTuple):
    """What the model says of a protein: the kind of its chain, and a label for every residue."""

    chain: str
    labels: list[str]


@dataclass(frozen=True)
class ReceptorNumbering:
    """A model, and the labels that it writes, by their ids."""

    model: Transformer
    labels: list[str]

    def number(self, proteins: Sequence[str]) -> list[Numbering]:
        """Number proteins, in capital letters, by greedy decoding. There are fewer labels if the model stops early.

        Raises ValueError for a letter that is not one of a residue, IndexError for more than 208 residues, TypeError
        for a single protein.
        """
        check_texts("number", proteins)
        rows = [[BOS, *self.encode(protein), EOS] for protein in proteins]
        if not rows:
            return []
        written = greedy(self.model, pad(rows), max_len=max(map(len, rows)))
        numberings = []
        for protein, ids in zip(proteins, written, strict=True):
            chain, *labels = [self.labels[i] for i in ids if i not in (EOS, PAD)][: len(protein) + 1] or [""]
            numberings.append(Numbering(chain, labels))
        return numberings

    def encode(self, protein: str) -> list[int]:
        """Give the ids of the residues."""
        usual = protein.translate(UNUSUAL)
        if not set(usual) <= set(LETTERS):
            wrong = "".join(sorted(set(usual) - set(LETTERS)))
            raise ValueError(f"number(): got {wrong!r}; residues are written as one of {LETTERS} or BOJUZ.")
        return [len(SPECIAL) + LETTERS.index(letter) for letter in usual]


def receptor_numbering(kind: str = "antibody", layers: int | None = None) -> ReceptorNumbering:
    """Read one of the models of the package anarcii.

    kind: "antibody", "shark" (their antibodies are heavy chains only) or "tcr" (T-cell receptors); layers: of encoder
    and decoder each, 1 (not for sharks) or 2; None: as many as there are. 0.55 million parameters with one, 1.0 with
    two. Raises ValueError for another kind or number of layers, ModuleNotFoundError, with the command that installs it,
    without the package.

    >>> heavy = "EVQLVESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYCAKDY"
    >>> chain, labels = receptor_numbering().number([heavy])[0]  # doctest: +SKIP
    >>> chain, labels[22 - 1], heavy[22 - 1]  # doctest: +SKIP
    ('H', '23', 'C')
    """
    if kind not in LAYERS:
        raise ValueError(f"receptor_numbering(): kind is {kind!r}; it must be one of {', '.join(map(repr, LAYERS))}.")
    layers = max(LAYERS[kind]) if layers is None else layers
    if layers not in LAYERS[kind]:
        raise ValueError(f"receptor_numbering(): layers is {layers}; for {kind!r} it must be in {LAYERS[kind]}.")
    folder = folder_of("anarcii", REQUIREMENT) / "models" / kind
    state = mg.torchfile.load(folder / f"{kind}_4_{layers}_128_512.pt")
    labels = [*SPECIAL, *map(str, range(1, 129)), "X", *CHAINS[kind]]
    model = Transformer(
        TransformerConfig(
            src_vocab_size=len(SPECIAL) + len(LETTERS),
            tgt_vocab_size=len(labels),
            d_model=128,
            nhead=4,
            num_encoder_layers=layers,
            num_decoder_layers=layers,
            dim_feedforward=512,
            dropout=0.25,
            activation_dropout=0.25,
            positions="learned",
            max_len=MAX_LEN,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
        )
    )
    inside, outside = from_anarcii(state)
    from_torch(model, inside)
    model.load_state_dict(model.state_dict() | outside)
    return ReceptorNumbering(model, labels)


def from_anarcii(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give ANARCII's parameters the names of nn.Transformer, and those around it ours."""
    inside, outside = {}, {}
    for name, array in state.items():
        side, _, rest = name.partition(".")
        if rest.startswith("layers."):
            last_norm = "norm2." if side == "encoder" else "norm3."
            for theirs, pytorch in (THEIR_NAMES | {"ff_layer_norm.": last_norm}).items():
                name = name.replace(theirs, pytorch)
            inside[name] = array
        else:
            embed = "src_embed." if side == "encoder" else "tgt_embed."
            ours = {"tok_embedding.": embed, "pos_embedding.": f"{side}.positions.", "fc_out.": "generator."}
            kind, _, parameter = rest.partition(".")
            outside[ours[f"{kind}."] + parameter] = array
    return inside, outside
