"""Tajik to Persian: one language in two scripts. Persian leaves out most vowels, so the letters are not one to one.

The package tg2fa_translit has a Transformer of 3 + 3 layers and 64 numbers per character, exactly torch.nn.Transformer.
Its output is written from right to left; a terminal may show it in another order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import minigrad as mg

from ..checks import check_texts
from ..config import TransformerConfig
from ..evaluate import Translator
from ..interchange import from_torch
from ..model import Transformer
from ..vocab import BOS, EOS, PAD, SPECIALS, Characters, Vocab
from .installed import folder_of

REQUIREMENT = "tg2fa_translit==1.0"

# The characters in the order of the package's decode.py; before them stand <unk>, <pad>, <bos>, <eos>.
TAJIK = " -~абвгдежзийклмнопрстуфхчшъьэюяёғқҳҷӣӯ"
PERSIAN = "ه -آئابتثجحخدذرزسشصضطظعغفقلمنوي\u0651\u0652\u0654پچژکگی\u200c"
ORDER = [1, 2, 3, 0]  # theirs of our <pad>, <bos>, <eos>, <unk>

LONGEST = 50  # characters that the model is given at once, as in the package
LETTERS = re.compile(f"[{TAJIK[3:]}][{TAJIK[3:]} -]*")
SHORT = re.compile(f" |.{{1,{LONGEST}}}(?= |$)|.{{1,{LONGEST}}}")  # cut between words, if they are not too long
PUNCTUATION = str.maketrans("?,;", "؟،؛")


class AfterBegin(Characters):
    """Characters, with the begin of sentence before them: this model wants to see it in the source as well.

    >>> AfterBegin().split("ман")
    ['<bos>', 'м', 'а', 'н']
    """

    def split(self, text: str) -> list[str]:
        """Cut a text into tokens."""
        return [SPECIALS[BOS], *text]

    def join(self, tokens: Iterable[str]) -> str:
        """Put the tokens of a text together again."""
        return "".join(tokens).removeprefix(SPECIALS[BOS])


@dataclass(frozen=True)
class TajikToPersian(Translator):
    """The model and its vocabularies; only letters go through it."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Write Tajik texts in Persian letters. What is not a letter stays, but for punctuation that Persian turns.

        Raises TypeError for a single text.
        """
        check_texts("translate", texts)
        cut = [pieces_of(text) for text in texts]
        letters = sorted({piece for pieces in cut for piece in pieces if LETTERS.fullmatch(piece)})
        written = dict(zip(letters, super().translate(letters), strict=True))
        return ["".join(written.get(piece, piece.translate(PUNCTUATION)) for piece in pieces) for pieces in cut]


def pieces_of(text: str) -> list[str]:
    """Cut a text into runs of Tajik words, in small letters and not too long, and whatever is between them.

    >>> pieces_of("Ман (2) китоб мехонам!")
    ['ман', ' (2) ', 'китоб мехонам', '!']
    """
    pieces, end = [], 0
    text = text.lower()
    for run in LETTERS.finditer(text):
        words = run.group().rstrip(" -")
        pieces += [text[end : run.start()], *SHORT.findall(words)]
        end = run.start() + len(words)
    return [piece for piece in (*pieces, text[end:]) if piece]


def tajik_to_persian() -> TajikToPersian:
    """Read the model of the package tg2fa_translit: 0.3 million parameters.

    The package splits long texts at better places, and writes numbers by a rule; this is the model, and little more.
    Raises ModuleNotFoundError, with the command that installs it, without the package.

    >>> tajik_to_persian().translate(["ман китоб мехонам"])  # doctest: +SKIP
    ['من کتاب می\u200cخوانم']
    """
    state = mg.torchfile.load(folder_of("tg2fa_translit", REQUIREMENT) / "model_2.9.zip")["model_state_dict"]
    source, target = Vocab(AfterBegin(), TAJIK), Vocab(Characters(), PERSIAN)
    source.ids[SPECIALS[BOS]] = BOS
    model = Transformer(
        TransformerConfig(
            src_vocab_size=len(source),
            tgt_vocab_size=len(target),
            d_model=64,
            nhead=8,
            num_encoder_layers=3,
            num_decoder_layers=3,
            dim_feedforward=64,
            dropout=0.01,
            final_norm=True,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
        )
    )
    inside = {name: array for name, array in state.items() if name.startswith("transformer.")}
    from_torch(model, {name.removeprefix("transformer."): array for name, array in inside.items()})
    outside: dict[str, Any] = {
        "src_embed.weight": in_our_order(state["src_tok_emb.embedding.weight"]),
        "tgt_embed.weight": in_our_order(state["tgt_tok_emb.embedding.weight"]),
        "generator.weight": in_our_order(state["generator.weight"]),
        "generator.bias": in_our_order(state["generator.bias"]),
    }
    model.load_state_dict(model.state_dict() | outside)
    return TajikToPersian(model, source, target)


def in_our_order(rows: Any) -> Any:
    """Give the rows of a table of theirs, one per token, in the order of our vocabularies.

    >>> in_our_order(mg.arange(6).numpy()).tolist()
    [1, 2, 3, 0, 4, 5]
    """
    return rows[[*ORDER, *range(len(ORDER), len(rows))]]
