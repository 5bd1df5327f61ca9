"""Commands that make and judge bundles."""

from typing import TYPE_CHECKING, Annotated

import typer

from prodrec.cli.app import Gpu, Out, announce_ray, app, interruption, judged, worker_range
from prodrec.errors import ConfigError

if TYPE_CHECKING:
    from prodrec.config import Recipe


@app.command()
def train(
    shards: Annotated[str, typer.Argument(help="Prepared data set.")],
    out: Out,
    recipe: Annotated[str | None, typer.Option(help="Name of a recipe, or a YAML file (default resnet50, or the one that the bundle of --from has).")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Bundle to go on from: its layers and labels are kept, new labels are added.")] = None,
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
    from prodrec.cli.display import run_display
    from prodrec.evaluation.summary import doubt, origin
    from prodrec.shards.reading import open_shards
    from prodrec.training.records import BUNDLE, REPORT, finished_summary, is_finished, read_history, recipe_of, start_run
    from prodrec.training.resuming import check_ending
    from prodrec.training.tracking import tell_finished

    overrides = [*(set_ or []), *([f"model.freeze_layers={freeze}"] if freeze is not None else [])]
    resume = resume or finish
    before = recipe_of(out, overrides) if resume and not (recipe or from_) else None
    if resume and not (before or recipe or from_):
        raise ConfigError(f"--resume: there is no run in {out} to go on with; name a --recipe to start one there, or another --out")
    chosen = before or _chosen_recipe(recipe, from_, overrides)
    least, most = worker_range(workers)
    if local and (most > 1 or cpus_per_worker):
        raise ConfigError("--local is one process on all cores; leave out --workers and --cpus-per-worker, or --local")
    opened = open_shards(shards)
    run = start_run(out, chosen, opened.uri, resume, "local" if local else "ray", opened.manifest_sha256, on_fork=lambda line: print(line, flush=True))
    if is_finished(run):
        tell_finished(chosen, opened, run, REPORT, BUNDLE, read_history(run))
        print(f"{out} is finished already\n{finished_summary(run)}")
        return
    if finish:
        check_ending(run, chosen)
    from prodrec.models.start import learned_before  # with timm: seconds, which a refused or a finished run need not wait

    if told := doubt(origin(opened, "val", learned_before(chosen, opened))):
        print(f"note: {told}", flush=True)
    if not local:
        announce_ray()
    with run_display() as display, interruption(f"interrupted; go on with the same command and --resume, {out} keeps what was finished"):
        if local:
            from prodrec.training.local import train_local

            train_local(chosen, opened, run, display, gpu=gpu, finish=finish)
        else:
            from prodrec.cluster.train import Workers
            from prodrec.cluster.train import train as train_on_cluster

            train_on_cluster(chosen, opened, run, Workers(least, most, gpu, cpus_per_worker), display, finish)
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
    split: Annotated[str, typer.Option(help="val or test: images that were not learned from.")] = "val",
    gpu: Gpu = False,
) -> None:
    """Choose from which probability on a product is accepted without a person looking."""
    from prodrec.evaluation.calibrate import calibrate, promise
    from prodrec.evaluation.summary import doubt

    found = calibrate(bundle, shards, split, precision, confidence, gpu)
    print(promise(found))
    if told := doubt(found.model_dump()):
        print(f"note: {told}")


def _chosen_recipe(name_or_path: str | None, bundle: str | None, overrides: list[str]) -> "Recipe":
    if bundle:
        from prodrec.models.start import continued_recipe

        return continued_recipe(bundle, name_or_path, overrides)
    from prodrec.recipes import load_recipe

    return load_recipe(name_or_path or "resnet50", overrides)
