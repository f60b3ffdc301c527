"""Commands that judge: judge."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from rdae.cli.training import training_extra
from rdae.errors import DataError, ModelError

__all__ = ["judge"]

MOST = 26_000  # samples, unless more are asked for


def judge(
    source: Annotated[
        Path, typer.Argument(help="A .model file or the folder of its run; samples in a .npy or .npz file or a folder.")
    ],
    data: Annotated[
        str, typer.Option("--data", help="To compare with, as for training; of a named set its test split.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Written as OUT.html and OUT.json.")] = Path("judgement"),
    samples: Annotated[
        int | None, typer.Option("--samples", min=8, help=f"How many. Default: half as many as data, at most {MOST}.")
    ] = None,
    training: Annotated[
        str | None, typer.Option("--training", help="What the model learned from, to look for copies; named sets know.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", help="Of the data: an array file, or a key of its .npz.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="What an array holds: binary, 8-bit, real or tabular.")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", min=1, help="Side to which images of a folder are cut.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of samples, subsets and splits.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> int:
    """Judge samples of a generative model: how far from data, how varied, how many modes, any copies."""
    with training_extra():
        import torch

        from rdae.data.samples import drawn_samples, read_samples
        from rdae.reports.judgement import judgement
        from rdae.reports.judgement_page import judgement_page
        from rdae.reports.page import write_report
    saved = _model(source)
    card = {} if saved is None else saved.card
    reference, seen, name = _data(data, training, labels, kind, size, card)
    count = samples or min(MOST, len(reference) // 2)
    if saved is not None:
        shown = drawn_samples(saved.model, reference, count, seed)
    else:
        shown = read_samples(source, reference)
        shown = shown[torch.randperm(len(shown), generator=torch.Generator().manual_seed(seed))[:count]]
    found = judgement(shown, reference, name=name, training=seen, seed=seed)

    title = f"{source.resolve().name} judged on {reference.name}"
    words = ["rdae", "judge", source.name, "--data", data if name else Path(data).name, "--samples", str(len(shown)),
             "--seed", str(seed)]  # fmt: skip
    facts = json.dumps({"source": source.name, "command": shlex.join(words), **found.as_json()}, indent=1)
    page = judgement_page(found, shown, reference.values, title=title, command=shlex.join(words))
    written = write_report(out, page, facts)
    print(facts if as_json else f"{found.text()}\n{written}")
    return 0


def _model(source: Path) -> Any:
    """A model, or None where the source holds samples."""
    from rdae.coding.model import CODEC_SUFFIX, shipped_models
    from rdae.recipes.model_file import MODEL_SUFFIX, open_model

    if source.suffix == CODEC_SUFFIX or (str(source) in shipped_models() and not source.exists()):
        raise ModelError(
            f"{source} is a codec, whose samples depend on quality and size. Write some with "
            f"'rdae sample {source} -n 1000 -o samples.npz' and judge that file."
        )
    if not source.exists():
        raise DataError(f"{source} does not exist. Pass a .model file, the folder of a run, or a file of samples.")
    if source.suffix == MODEL_SUFFIX or (source.is_dir() and any(source.glob(f"*{MODEL_SUFFIX}"))):
        return open_model(source)
    return None


def _data(
    data: str, training: str | None, labels: str | None, kind: str | None, size: int | None, card: dict[str, Any]
) -> tuple[Any, Any, str | None]:
    """What samples are compared with, what the model has seen, and the name of the set if it has one."""
    from rdae.data.sources import has_test, open_data

    event = tuple(card.get("event", ()))
    sides = (size, size) if size else event[1:] if len(event) == 3 else None

    def opened(place: str, split: str, labels: str | None = None) -> Any:
        if has_test(place):
            return open_data(place, split=split, labels=labels)
        if Path(place).is_dir():
            return open_data(place, size=sides, labels=labels)
        return open_data(place, kind=kind or card.get("kind"), labels=labels)

    name = data.partition(":")[0]  # a number of triples is for training
    if not has_test(data):
        return opened(data, "train", labels), None if training is None else opened(training, "train"), None
    return opened(name, "test", labels), opened(training or data, "train"), name
