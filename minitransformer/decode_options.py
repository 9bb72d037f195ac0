"""How to decode, as options of the command line: what they are called, and what they mean together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import typer

from .beam import MOST, beam_search
from .decoding import greedy
from .jacobi import jacobi
from .sampling import check_filter, sample


def option(help: str, *names: str, **settings: Any) -> Any:
    """Describe an option of decoding; without any of them it is greedy."""
    return typer.Option(*names, help=help, rich_help_panel="Decoding, greedy without these", **settings)


Beam = Annotated[int | None, option("Beam search: keep so many hypotheses.", min=1)]
LengthPenalty = Annotated[
    float | None, option("With --beam: above 0 favours long sentences, below 0 short.", show_default="0.6")
]
NBest = Annotated[int | None, option("With --beam: print so many, each after its score and a tab.", min=1)]
Sampled = Annotated[bool, option("Draw the tokens at random.", "--sample")]
Temperature = Annotated[float | None, option("With --sample: below 1 plays safe, above 1 dares.", show_default="1.0")]
TopK = Annotated[int | None, option("With --sample: from the K most probable tokens only.", min=1, metavar="K")]
TopP = Annotated[
    float | None, option("With --sample: from the fewest tokens that have probability P together.", metavar="P")
]
Seed = Annotated[
    int | None, option("With --sample: makes it repeatable, text by text.", min=0, show_default="another each time")
]
Jacobi = Annotated[bool, option("Guess many tokens at once until they are those of greedy decoding.", "--jacobi")]


@dataclass
class Decoding:
    """The options as they were given. Raises ValueError for those that make no sense, or not together.

    It decodes as they say: called with a model and source tokens (B, S), it returns the tokens of B sentences.
    """

    beam: int | None = None
    length_penalty: float | None = None
    n_best: int | None = None
    sampled: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    jacobi: bool = False

    def __post_init__(self) -> None:
        ways = {"--beam": self.beam is not None, "--sample": self.sampled, "--jacobi": self.jacobi}
        if sum(ways.values()) > 1:
            raise ValueError(f"{' and '.join(name for name in ways if ways[name])} exclude each other. Choose one.")
        for way, names in (
            ("--beam", ("length_penalty", "n_best")),
            ("--sample", ("temperature", "top_k", "top_p", "seed")),
        ):
            given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
            if given and not ways[way]:
                raise ValueError(f"{', '.join(given)} only with {way}. Add that, or leave them out.")
        if self.beam is not None and (self.n_best or 1) > self.beam:
            raise ValueError(f"--n-best is {self.n_best}, and --beam keeps {self.beam}. Let it keep as many or more.")
        if self.length_penalty is not None and not -MOST <= self.length_penalty <= MOST:
            raise ValueError(f"--length-penalty is {self.length_penalty}. It must be from {-MOST:g} to {MOST:g}.")
        if self.sampled:
            check_filter(1.0 if self.temperature is None else self.temperature, self.top_k, self.top_p)
        self.calls = self.tokens = 0  # of the model, and in the longest sentences of the batches, with --jacobi

    def __call__(self, model: Any, src: np.ndarray) -> Any:
        """Decode."""
        if self.beam is not None:
            return [hypotheses[0].tokens for hypotheses in self.search(model, src)]
        if self.sampled:
            return self.draw(model, src)
        if self.jacobi:
            tokens, calls = jacobi(model, src)
            self.calls, self.tokens = self.calls + calls, self.tokens + tokens.shape[1]
            return tokens
        return greedy(model, src)

    def __str__(self) -> str:
        """How it decodes, in words; nothing where it writes what greedy decoding writes."""
        if self.beam is not None:
            return f"beam search with {self.beam}"
        return "sampled" if self.sampled else ""

    @property
    def search(self) -> Any:
        """Beam search as the options say."""
        given = {"beam_size": self.beam, "length_penalty": self.length_penalty, "n_best": self.n_best}
        return partial(beam_search, **{name: value for name, value in given.items() if value is not None})

    def draw(self, model: Any, src: np.ndarray) -> np.ndarray:
        """Sample; a sentence has the seed that was given and its own tokens, so what is beside it does not matter."""
        pad = model.config.pad_id
        seeds = None if self.seed is None else [(self.seed, *row[row != pad].tolist()) for row in src]
        temperature = 1.0 if self.temperature is None else self.temperature
        return sample(model, src, temperature=temperature, top_k=self.top_k, top_p=self.top_p, seed=seeds)

    def saved(self) -> str:
        """What --jacobi has saved, in words."""
        return f"jacobi: {self.calls} calls of the model; token by token, {self.tokens}"
