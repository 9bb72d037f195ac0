"""The command line: tasks, train, translate, evaluate, inspect.

Exit codes: 0 done, 1 it cannot be done, 2 the command is wrong, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import model_options as of
from .cli_inspect import inspect
from .config import TransformerConfig
from .decode_options import Beam, Decoding, Jacobi, LengthPenalty, NBest, Sampled, Seed, Temperature, TopK, TopP
from .runs import ARCHITECTURES, CHECKPOINT, Recipe, open_checkpoint, written_before
from .session import Session, held_out_sets, sentence
from .tasks import TASKS, Task, make_task
from .terminal import (
    INTERRUPTED,
    USAGE,
    CheckpointPath,
    TextCommand,
    Threads,
    check_texts,
    chunks,
    errors_without_traceback,
    fail,
    standard_input,
    usage_errors,
    use,
    warn_of_unknown,
)
from .train import TrainConfig
from .vocab import SPECIALS

app = typer.Typer(
    help="Train a complete Transformer on an autograd engine of its own, and translate with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

WIDTH = 120  # of tables that are not printed to a terminal


def main() -> None:
    """Run the command line."""
    app()


# ------------------------------------------------------------------------------------------------------------- options
def show_version(wanted: bool) -> None:
    """Print the version and exit."""
    if not wanted:
        return
    try:
        typer.echo(f"minitransformer {version('minitransformer')}")
    except PackageNotFoundError:
        typer.echo("minitransformer, not installed but run from its source")
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Train a complete Transformer on an autograd engine of its own, and translate with it."""


def task_option(help: str, default: str, *names: str) -> Any:
    """Describe an option that some tasks have; without it the task's own default holds."""
    return typer.Option(*names, help=help, rich_help_panel="Task", show_default=default)


def training_option(help: str, *names: str, **settings: Any) -> Any:
    """Describe an option of training."""
    return typer.Option(*names, help=help, rich_help_panel="Training", **settings)


def folder_option(help: str, *names: str, **settings: Any) -> Any:
    """Describe an option that says what is written and where."""
    return typer.Option(*names, help=help, rich_help_panel="Folder", **settings)


TASK_OPTIONS = ("source", "target", "low", "high", "ordinals", "symbols", "min_length", "max_length", "train_size")
TRAINING_OPTIONS = tuple(asdict(TrainConfig()))
MAY_CHANGE = ("steps", "eval_every", "target_accuracy")  # none of them changes what a step computes


@app.command()
def train(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help=f"What to learn: {', '.join(TASKS)}.", metavar="TASK")],
    source: Annotated[str | None, task_option("Language to translate from.", "en")] = None,
    target: Annotated[str | None, task_option("Language to translate into.", "fr")] = None,
    low: Annotated[int | None, task_option("The smallest number.", "0")] = None,
    high: Annotated[int | None, task_option("The largest number.", "999999")] = None,
    ordinals: Annotated[
        bool | None, task_option("Ordinals: twenty-first, not twenty-one.", "no", "--ordinals/--no-ordinals")
    ] = None,
    symbols: Annotated[int | None, task_option("Different symbols in the sequences.", "10")] = None,
    min_length: Annotated[int | None, task_option("Length of the shortest sequence.", "1")] = None,
    max_length: Annotated[int | None, task_option("Length of the longest sequence.", "10")] = None,
    train_size: Annotated[int | None, task_option("Sentence pairs to learn from.", "30000, sequences 20000")] = None,
    model: of.Model = "transformer",
    d_model: of.DModel = 64,
    nhead: of.Heads = 4,
    head_dim: of.HeadDim = None,
    layers: of.Layers = None,
    dim_feedforward: of.DimFeedforward = 256,
    hidden_size: of.HiddenSize = 128,
    attention_size: of.AttentionSize = 64,
    dropout: of.Dropout = 0.1,
    activation_dropout: of.ActivationDropout = TransformerConfig.activation_dropout,
    positions: of.Positions = TransformerConfig.positions,
    max_len: of.MaxLen = TransformerConfig.max_len,
    cross_positions: of.CrossPositions = TransformerConfig.cross_positions,
    attention: of.Attention = TransformerConfig.attention,
    attention_scale: of.AttentionScale = str(TransformerConfig.attention_scale),
    share_qk: of.ShareQK = TransformerConfig.share_qk,
    norm: of.Norm = TransformerConfig.norm,
    norm_first: of.NormFirst = TransformerConfig.norm_first,
    activation: of.Activation = TransformerConfig.activation,
    residual: of.Residual = TransformerConfig.residual,
    bias: of.Bias = TransformerConfig.bias,
    scale_embedding: of.ScaleEmbedding = TransformerConfig.scale_embedding,
    tie_weights: of.TieWeights = TransformerConfig.tie_weights,
    steps: Annotated[int, training_option("Train for at most so many steps.", min=1)] = TrainConfig.steps,
    batch_size: Annotated[int, training_option("Sentence pairs in a batch.", min=1)] = TrainConfig.batch_size,
    warmup: Annotated[int, training_option("Steps in which the learning rate rises.", min=1)] = TrainConfig.warmup,
    lr_factor: Annotated[float, training_option("Times the paper's learning rate; above 0.")] = TrainConfig.lr_factor,
    label_smoothing: Annotated[
        float, training_option("Share of the target's probability given to all tokens.", min=0, max=0.99)
    ] = TrainConfig.label_smoothing,
    max_norm: Annotated[float, training_option("Scale longer gradients down to this; above 0.")] = TrainConfig.max_norm,
    target_accuracy: Annotated[
        float, training_option("Stop when so many held-out sentences are right; above 1: never.", min=0)
    ] = TrainConfig.target_accuracy,
    eval_every: Annotated[int, training_option("Steps between two evaluations.", min=1)] = TrainConfig.eval_every,
    seed: Annotated[int, training_option("Decides parameters, order and dropout.", min=0)] = TrainConfig.seed,
    threads: Threads = None,
    out: Annotated[
        str | None,  # not a Path: that of "" is "."
        folder_option(
            "Where to write everything.", metavar="PATH", show_default="runs/TASK-SOURCE-TARGET or runs/TASK, with -gru"
        ),
    ] = None,
    resume: Annotated[bool, folder_option("Go on from the checkpoint in the folder.", "--resume")] = False,
    overwrite: Annotated[bool, folder_option("Start anew over what is in the folder.", "--overwrite")] = False,
    save_every: Annotated[int, folder_option("Steps between two checkpoints.", min=1)] = 100,
    pictures: Annotated[bool, folder_option("Draw the loss curve and the attention maps.")] = True,
) -> None:
    """Train a model, and show what it does with sentences it has never seen.

    Ctrl-C saves and stops. The same command with --resume goes on, and ends with the same bits as if never stopped.

    With --resume, options that are left out are those of the checkpoint.
    """
    chosen = {name: value for name, value in context.params.items() if is_given(context, name)}
    with errors_without_traceback("Free some space, or choose another folder with --out."):
        if resume and overwrite:
            fail("--resume and --overwrite exclude each other.", USAGE)
        if out == "":
            fail("--out is empty. Give the name of a folder.", USAGE)
        if pictures and find_spec("matplotlib") is None:
            fail("matplotlib is not installed, and draws the pictures. Install it, or train with --no-pictures.")
        with usage_errors():
            to_learn = new_task(task, chosen)
            check_model(model)
        name = to_learn.slug if model == "transformer" else f"{to_learn.slug}-{model}"
        folder = Path(out) if out else Path("runs") / name
        check_folder(folder, resume, overwrite)
        checkpoint = open_checkpoint(folder) if resume else None
        if checkpoint and "model" not in chosen:
            model = checkpoint.recipe.architecture
        with usage_errors():
            recipe = new_recipe(to_learn, model, context.params, chosen)
        if checkpoint:
            recipe = resumed_recipe(folder, checkpoint.recipe, recipe, chosen)
        use(threads)
        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
        session = Session(console, folder, recipe)
        with usage_errors(), session.watch.phase("data"):
            splits = recipe.task.splits
            recipe.check_lengths(splits)
        trainer = session.prepare(splits, checkpoint)
        if not session.train(trainer, save_every):
            if session.replaces:
                fail(f"stopped before the first step; {folder} is as it was.", INTERRUPTED)
            fail(f"stopped after step {trainer.steps_taken}; all is saved. Go on with --resume.", INTERRUPTED)
        session.show(trainer, pictures)


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the user gave the option, be it with its default value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def check_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Say so if the folder is not one that a run can be written to, or go on in."""
    there = (folder / CHECKPOINT).exists()
    if folder.exists() and not folder.is_dir():
        fail(f"{folder} is a file, not a folder. Choose another --out.")
    if resume and not there:
        fail(f"there is no checkpoint in {folder}. Leave out --resume to begin there, or choose another --out.")
    if resume or overwrite:
        return
    if there:
        fail(f"{folder} holds a checkpoint. Go on from it with --resume, or start anew with --overwrite.")
    if names := written_before(folder):
        fail(f"{folder} holds {', '.join(names)} already. Choose another --out, or replace them with --overwrite.")


def flag(name: str) -> str:
    """The name of an option as it is typed."""
    return f"--{name.replace('_', '-')}"


def new_task(task: str, chosen: dict[str, Any]) -> Task:
    """Make the task that the command line asks for. Raises ValueError."""
    asked = {name: chosen[name] for name in TASK_OPTIONS if name in chosen}
    if task in TASKS:
        known = [field.name for field in fields(TASKS[task])]
        check_options(task, asked, [name for name in TASK_OPTIONS if name in known])
    return make_task(task, **asked)


def new_recipe(task: Task, model: str, options: dict[str, Any], chosen: dict[str, Any]) -> Recipe:
    """Make the recipe that the command line asks for. Raises ValueError."""
    legal = of.MODEL_OPTIONS[model]
    check_options(model, [name for names in of.MODEL_OPTIONS.values() for name in names if name in chosen], legal)
    settings = {name: options[name] for name in legal if name != "layers"}
    settings["src_vocab_size"] = len(SPECIALS)  # the least there are; the task decides
    for field in of.LAYERS[model]:
        settings[field] = options["layers"] or (2 if model == "transformer" else 1)
    training = TrainConfig(**{name: options[name] for name in TRAINING_OPTIONS})
    return Recipe(task, ARCHITECTURES[model].config(**settings), training)


def check_model(model: str) -> None:
    """Raise ValueError unless there is such a model."""
    if model not in ARCHITECTURES:
        raise ValueError(f"there is no model {model!r}. Choose one of: {', '.join(ARCHITECTURES)}.")


def check_options(what: str, asked: Iterable[str], legal: Sequence[str]) -> None:
    """Raise ValueError for options that a task or model does not have."""
    if foreign := [flag(name) for name in dict.fromkeys(asked) if name not in legal]:
        raise ValueError(f"{what} has no {', '.join(foreign)}. Its options are {', '.join(map(flag, legal))}.")


def resumed_recipe(folder: Path, saved: Recipe, asked: Recipe, chosen: dict[str, Any]) -> Recipe:
    """The recipe of the checkpoint, with those of the chosen options that may change."""
    if asked.task.name != saved.task.name:
        fail(f"{folder} was trained on another TASK: {saved.task.name}, not {asked.task.name}. Choose another --out.")
    before, now = flat(saved), flat(asked)
    changed = [
        f"{flag(name)} is {before[name]} there, not {now[name]}"
        for name in chosen
        if name in now and name in before and name not in MAY_CHANGE and before[name] != now[name]
    ]
    if changed:
        fail(f"{folder} was trained with other options: {'; '.join(changed)}. Leave them out, or choose another --out.")
    may_change = {name: chosen[name] for name in MAY_CHANGE if name in chosen}
    return replace(saved, training=replace(saved.training, **may_change))


def flat(recipe: Recipe) -> dict[str, Any]:
    """The options of a recipe by their names on the command line."""
    parts = recipe.to_dict()
    model = {"model": recipe.architecture, "layers": parts["model"][of.LAYERS[recipe.architecture][0]]}
    return {**parts["task"], **parts["model"], **model, **parts["training"]}


# ------------------------------------------------------------------------------------------------- the other commands
@app.command()
def tasks() -> None:
    """List the tasks that can be learnt."""
    for name, task in TASKS.items():
        typer.echo(f"{name:10} {task.description}")


@app.command(cls=TextCommand)
def translate(
    checkpoint: CheckpointPath,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to translate; after -- if it begins with -.", metavar="TEXT", show_default="standard input"
        ),
    ] = None,
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    n_best: NBest = None,
    sampled: Sampled = False,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    jacobi: Jacobi = False,
    threads: Threads = None,
) -> None:
    """Translate each TEXT, or each line of the standard input, to one line (with --n-best to several)."""
    with errors_without_traceback():
        with usage_errors():
            decoding = Decoding(beam, length_penalty, n_best, sampled, temperature, top_k, top_p, seed, jacobi)
        saved = open_checkpoint(checkpoint)
        use(threads)
        translator, task = saved.translator(), saved.recipe.task
        check_texts(texts or [])
        empty = True
        for chunk in [texts] if texts else chunks(standard_input()):
            normal = [task.normalise(text) for text in chunk]
            empty = empty and not any(normal)
            warn_of_unknown(translator.source, normal)
            if n_best is None:
                lines = translator.translate(normal, decoding)
            else:
                found = translator.n_best(normal, decoding.search)
                lines = ["\n".join(f"{score:.4f}\t{line}" for score, line in hypotheses) for hypotheses in found]
            for line in lines:
                typer.echo(line)
        if jacobi:
            typer.echo(decoding.saved(), err=True)
        if empty:
            fail("there is nothing to translate. Give TEXT, or lines on the standard input.")


@app.command()
def evaluate(
    checkpoint: CheckpointPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    sampled: Sampled = False,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    jacobi: Jacobi = False,
    threads: Threads = None,
) -> None:
    """Measure a model on its held-out sets: exact matches, tokens, loss."""
    with errors_without_traceback():
        with usage_errors():
            decoding = Decoding(beam, length_penalty, None, sampled, temperature, top_k, top_p, seed, jacobi)
        saved = open_checkpoint(checkpoint)
        use(threads)
        translator = saved.translator()
        with Console(stderr=True).status("evaluating"):
            held_out = held_out_sets(saved.recipe.task)
            scores = {name: translator.evaluate(pairs, decoding)[0] for name, pairs in held_out.items()}
        if as_json:
            typer.echo(json.dumps({"splits": {name: asdict(score) for name, score in scores.items()}}))
        else:
            for name, score in scores.items():
                typer.echo(f"{name}: {sentence(score)}{f' ({decoding})' if str(decoding) else ''}")
        if jacobi:
            typer.echo(decoding.saved(), err=True)


app.command(cls=TextCommand)(inspect)
