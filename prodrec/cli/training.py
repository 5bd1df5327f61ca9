"""Commands that make and judge bundles."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from prodrec.cli.app import Gpu, Out, app, interruption, judged, worker_range
from prodrec.cli.launching import train_here, train_on_ray
from prodrec.errors import ConfigError

if TYPE_CHECKING:
    from prodrec.config import Recipe
    from prodrec.shards.reading import Shards


@app.command()
def train(
    shards: Annotated[str, typer.Argument(help="Prepared data set.")],
    out: Out,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe, or a YAML file (default: what suits data and machine, or the one that the bundle of --from has).")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Bundle to go on from: its layers and labels are kept, new labels are added.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Bundle of a classifier whose answers are learned from, beside the labels.")] = None,
    refit: Annotated[str | None, typer.Option(help="Folder of a finished run: its recipe learns from train and val, as long as val found best there.")] = None,
    folds: Annotated[
        int, typer.Option(min=0, help="With --refit: temperature and thresholds are chosen by so many trainings, each without a part of the data.")
    ] = 0,
    freeze: Annotated[int | None, typer.Option(min=0, help="Keep the first N layers of the backbone as they are.")] = None,
    workers: Annotated[str, typer.Option(help="Training processes: N, or MIN:MAX for an elastic run.")] = "1",
    gpu: Annotated[bool, typer.Option("--gpu", help="One GPU for each worker.")] = False,
    cpus_per_worker: Annotated[float | None, typer.Option(help="CPUs to reserve for each worker.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a field of the recipe: a.b=value.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Train no more: report and bundle of the best epoch of the run in --out.")] = False,
    local: Annotated[bool, typer.Option("--local", help="One process, without Ray.")] = False,
) -> None:
    """Train a recipe on shards; leaves metrics, checkpoints, a report and a bundle in --out."""
    from prodrec.evaluation.summary import doubt, origin
    from prodrec.shards.reading import open_shards
    from prodrec.training.records import BUNDLE, REPORT, finished_summary, is_finished, read_history, recipe_of, start_run
    from prodrec.training.resuming import check_ending
    from prodrec.training.tracking import tell_finished

    overrides = [*(set_ or []), *([f"model.freeze_layers={freeze}"] if freeze is not None else []), *_of_teacher(teacher)]
    if refit and (overrides or recipe or from_):
        raise ConfigError("--refit takes all settings from the run before; leave out --recipe, --from, --teacher, --freeze and --set")
    if folds and not refit:
        raise ConfigError("--folds belong to --refit RUN: train without them first, then train again with --refit and that run's folder")
    resume = resume or finish
    before = recipe_of(out, overrides) if resume and not (recipe or from_ or refit) else None
    if resume and not (before or recipe or from_ or refit):
        raise ConfigError(f"--resume: there is no run in {out} to go on with; name a --recipe to start one there, or another --out")
    least, most = worker_range(workers)
    if local and (most > 1 or cpus_per_worker):
        raise ConfigError("--local is one process on all cores; leave out --workers and --cpus-per-worker, or --local")
    opened = open_shards(shards)
    chosen = before or (_refitted_recipe(refit, opened, folds) if refit else _chosen_recipe(recipe, from_, overrides, opened.uri, gpu))
    run = start_run(out, chosen, opened.uri, resume, "local" if local else "ray", opened.manifest_sha256, on_fork=lambda line: print(line, flush=True))
    if is_finished(run):
        tell_finished(chosen, opened, run, REPORT, BUNDLE, read_history(run))
        print(f"{out} is finished already\n{finished_summary(run)}")
        return
    if finish:
        check_ending(run, chosen)
    from prodrec.evaluation.sizes import size_notes
    from prodrec.models.start import learned_before, val_learned  # with timm: seconds, which a refused or a finished run need not wait

    if not chosen.refit and (told := doubt(origin(opened, "val", learned_before(chosen, opened), val_learned(chosen)))):
        print(f"note: {told}", flush=True)
    for note in size_notes(chosen, opened):
        print(f"note: {note}", flush=True)
    with interruption(f"interrupted; go on with the same command and --resume, {out} keeps what was finished"):
        if local:
            train_here(chosen, opened, run, gpu, finish)
        else:
            train_on_ray(chosen, opened, run, (least, most, gpu, cpus_per_worker), finish)
    print(finished_summary(run))


@app.command()
def evaluate(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle.")],
    shards: Annotated[str, typer.Argument(help="Prepared data set.")],
    out: Out,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    gpu: Gpu = False,
) -> None:
    """Judge a bundle on a split; writes metrics.json and index.html. Within a Ray job it runs as a task of the cluster, else here."""
    from prodrec.evaluation.summary import doubt, judgement
    from prodrec.reports.judge import judge

    _note_size(bundle, shards)
    metrics = judged(judge, gpu, bundle, shards, split, out)
    print(judgement(metrics))
    if told := doubt(metrics):
        print(f"note: {told}")
    print(f"{out}/metrics.json, {out}/index.html")


@app.command()
def calibrate(
    bundle: Annotated[str, typer.Argument(help="Folder of a classifier's bundle; what is chosen is written into it.")],
    shards: Annotated[str, typer.Argument(help="Prepared data set.")],
    precision: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Share of the accepted that is right.")] = 0.98,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Probability that this promise holds.")] = 0.9,
    split: Annotated[str, typer.Option(help="val or test: images that were not learned from; folds: what the folds of a --refit --folds said.")] = "val",
    gpu: Gpu = False,
) -> None:
    """Choose from which probability on a product is accepted without a person looking."""
    from prodrec.evaluation.calibrate import calibrate, promise
    from prodrec.evaluation.summary import doubt

    _note_size(bundle, shards)
    found = calibrate(bundle, shards, split, precision, confidence, gpu)
    print(promise(found))
    if told := doubt(found.model_dump()):
        print(f"note: {told}")


def _note_size(bundle: str, shards: str) -> None:
    from prodrec.evaluation.sizes import other_size
    from prodrec.models.bundle_files import load_info
    from prodrec.shards.reading import open_shards

    if told := other_size(load_info(bundle), open_shards(shards)):
        print(f"note: {told}", flush=True)


def _of_teacher(bundle: str | None) -> list[str]:
    if not bundle:
        return []
    from prodrec.models.bundle_files import bundle_folder

    return [f"distill.teacher={json.dumps(bundle_folder(bundle).uri)}"]


def _refitted_recipe(before: str, shards: "Shards", folds: int) -> "Recipe":
    from prodrec.training.refit import refit_recipe

    return refit_recipe(before, shards, folds)


def _chosen_recipe(name_or_path: str | None, bundle: str | None, overrides: list[str], shards: str, gpu: bool) -> "Recipe":
    if bundle:
        from prodrec.models.start import continued_recipe

        return continued_recipe(bundle, name_or_path, overrides)
    if not name_or_path:
        from prodrec.training.advice import advised

        recipe, lines = judged(advised, gpu, shards, overrides)
        print("\n".join(lines), flush=True)
        return recipe
    from prodrec.recipes import load_recipe

    return load_recipe(name_or_path, overrides)
