"""Show what the published models do that are installed, and how the others are."""

from __future__ import annotations

from .receptors import receptor_numbering
from .sentences import sentence_encoder
from .tajik import tajik_to_persian

SENTENCES = [
    "A cat sits outside.",
    "There is a cat outdoors.",
    "The opera begins at eight.",
    "When does the show start?",
]
TAJIK = ["ман китоб мехонам", "Душанбе пойтахти Тоҷикистон аст."]
HEAVY_CHAIN = (  # the variable domain of an antibody; IMGT gives its two cysteines and its tryptophan 23, 104 and 41
    "EVQLVESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYCAKDRGYYYGMDVWGQGTTVTVSS"
)


def show_sentences() -> None:
    """Print how near in meaning sentences are: the cosines of the angles between their vectors."""
    vectors = sentence_encoder().encode(SENTENCES)
    for sentence, cosines in zip(SENTENCES, vectors @ vectors.T, strict=True):
        print(*(f"{cosine:5.2f}" for cosine in cosines), sentence)


def show_tajik() -> None:
    """Print two sentences in both scripts."""
    for tajik, persian in zip(TAJIK, tajik_to_persian().translate(TAJIK), strict=True):
        print(tajik, "->", persian)


def show_receptor() -> None:
    """Print the chain of a protein, and its residues with their IMGT numbers."""
    chain, labels = receptor_numbering().number([HEAVY_CHAIN])[0]
    print(chain, *(residue + label for residue, label in zip(HEAVY_CHAIN, labels, strict=False)))


def main() -> None:
    """Show all of them."""
    for show in (show_sentences, show_tajik, show_receptor):
        try:
            show()
        except ModuleNotFoundError as missing:
            print(missing)
        print()


if __name__ == "__main__":
    main()
