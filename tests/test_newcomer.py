"""What somebody may get wrong who has never used the instruments: each mistake has an answer in their own terms."""

import numpy as np
import pytest

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn, trace
from minitransformer import lens


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.fixture
def rec(model):
    with mg.record(model) as recording:
        (model(mg.randn(5, 3)) ** 2).mean().backward()
    return recording


@pytest.fixture
def reader():
    sizes = {"d_model": 8, "nhead": 2, "num_decoder_layers": 1}
    return mt.LanguageModel(mt.TransformerConfig(src_vocab_size=9, **sizes)).eval()


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda model, rec: rec[0], TypeError, r"the name of a step is a string, not a int\. Try find"),
        (lambda model, rec: rec[model[0].weight], TypeError, "a string, not a Parameter"),
        (lambda model, rec: rec.edge(1, 2), TypeError, "a string, not a int"),
        (lambda model, rec: rec.paths(model[0].weight), TypeError, "a string, not a Parameter"),
        (lambda model, rec: rec.find(model[0]), TypeError, "find: the name of a step is a string, not a Linear"),
        (lambda model, rec: rec.ledger(3), TypeError, "ledger: the name of a step is a string, not a int"),
        (lambda model, rec: rec.name("0"), KeyError, "a str is no step of this recording"),
        (lambda model, rec: rec.profile("module", depth="1"), ValueError, "depth is '1'"),
        (lambda model, rec: mg.graph(rec, open=[model[0]]), TypeError, r"open is a Linear; give its name"),
        (lambda model, rec: mg.graph(rec, open=model[0]), TypeError, r"open is a Linear; give its name"),
        (lambda model, rec: mg.graph(rec, to=model[0].weight), TypeError, r"to is a Parameter; give its name"),
        (lambda model, rec: mg.graph(rec, open="xyz"), ValueError, r"no module\. Near: 0, 1, 2\."),
        (lambda model, rec: mg.graph(model[0].weight * 2, model="m"), TypeError, "the model is a str; give a Module"),
        (lambda model, rec: draw.gradient_flow(model), TypeError, "given Sequential; give a recording, or several"),
        (lambda model, rec: draw.residual_ledger([rec, rec]), TypeError, "given list; give a recording"),
        (lambda model, rec: draw.path_shares({"a": model}, "0.weight"), TypeError, "'a' is a Sequential; give"),
        (lambda model, rec: mg.compare(rec, rec).modules("1"), TypeError, r"depth is '1'; .* Try depth=1\."),
        (lambda model, rec: trace.compare_kernels(rec), TypeError, "given a Recording; give a function"),
        (lambda model, rec: trace.crossings(rec, model[0].weight), TypeError, "root is a Recording; give tensors"),
        (
            lambda model, rec: trace.crossings(model[0].weight * 2, model[0].weight, np.ones(3)),
            mg.ShapeError,
            r"gradient has shape \(3,\), the root \(4, 3\)",
        ),
    ],
)
def test_mistakes_with_recordings(model, rec, use, error, message):
    with pytest.raises(error, match=message):
        use(model, rec)


@pytest.mark.parametrize("limit", ["1GB", -1, None])
def test_the_memory_of_a_recording_is_a_number(limit):
    with pytest.raises(ValueError, match=r"limit is .*; it must be a number of bytes"), mg.record(limit=limit):
        pass


def test_a_step_of_another_recording_is_no_step(model, rec):
    with mg.record(model) as other:
        model(mg.randn(5, 3))
    step = other["0.linear"]
    for use in (lambda: rec.paths(step), lambda: rec.name(step), lambda: rec.edge(step, step.inputs[0].parent)):
        with pytest.raises(KeyError, match="is no step of this recording"):
            use()
    assert rec.paths(rec["0.weight"]) == {0: 1.0}


def test_an_empty_graph_says_why(model):
    with mg.record(model) as recording, mg.no_grad():
        model(mg.ones(1, 3))
    assert "no_grad() was on" in str(mg.graph(recording))
    assert "image/svg+xml" in mg.graph(recording)._repr_mimebundle_()


def test_an_empty_table_says_so(rec):
    assert repr(rec.ledger("encoder.*")).endswith("no rows")
    assert "no rows" in rec.ledger("encoder.*")._repr_html_()
    assert "in modules with is_residual = True" in repr(rec.residuals())


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda model: lens.dependency("m", [4, 5]), TypeError, r"the model is a str; give a Module"),
        (lambda model: lens.saturation(None, [[4, 5]]), TypeError, r"the model is a NoneType; give a Module"),
        (lambda model: lens.patterns(3, [[4, 5]]), TypeError, r"the model is a int; give a Module"),
        (lambda model: lens.head_importance(nn.Linear(2, 2), list), ValueError, "no MultiHeadAttention in this Linear"),
        (
            lambda model: lens.dependency(model, [4, 5])["decoder"],
            KeyError,
            r"no pair 'decoder'; there are \('decoder'",
        ),
        (lambda model: lens.saturation(model, [[4, 5]])["decoder"], KeyError, "no attention 'decoder'. Near: 'decoder"),
        (lambda model: lens.dependency_matrices(model), TypeError, "give what lens.dependency"),
        (lambda model: lens.saturation_strip(model), TypeError, "give what lens.saturation"),
        (lambda model: lens.row_gradients(model), TypeError, "give what lens.saturation"),
        (lambda model: lens.Film().add(1, model), TypeError, "given int, LanguageModel; give the number of a step"),
        (lambda model: lens.attention_grid(None), TypeError, "given a NoneType; give a Module, or what patterns"),
        (lambda model: lens.attention_grid(model, [[4]], source=[], target=[]), ValueError, "0 tokens for 1 places"),
        (lambda model: lens.loss_curves("log.jsonl"), ValueError, r"no list of records .*\[json\.loads"),
        (lambda model: lens.loss_curves([{"step": 1}]), ValueError, r"no list of records"),
        (lambda model: model([[4.0, 5.0]]), mg.ShapeError, r"dtype float64; .* Give the numbers of tokens\."),
        (lambda model: model([4, 5]), mg.ShapeError, r"For one sentence try ids\[None\]\."),
    ],
)
def test_mistakes_with_lenses(reader, use, error, message):
    with pytest.raises(error, match=message):
        use(reader)


def test_a_model_of_which_nothing_is_known_is_not_said_to_hold_its_masks(reader):
    own = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    found = lens.dependency(own, [4, 5])
    assert "may see everything; what it must not see is said by expected=" in repr(found)
    promised = lens.dependency(own, [4, 5], expected={("output", "input"): np.tri(2, dtype=bool)})
    assert promised.headline == lens.dependency(reader, [4, 5]).headline == "every mask holds"
