"""The command that looks for better settings of a recipe."""

from typing import TYPE_CHECKING, Annotated

import typer

from prodrec.cli.app import Out, announce_ray, app, interruption, judged

if TYPE_CHECKING:
    from prodrec.files import Folder
    from prodrec.training.trials import Trial


@app.command()
def tune(
    shards: Annotated[str, typer.Argument(help="Prepared data set.")],
    out: Out,
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a YAML file: where the search starts.")],
    trials: Annotated[int, typer.Option(min=2, help="Trainings; the first is the recipe as it is.")] = 16,
    cpus_per_trial: Annotated[float, typer.Option(min=0.1, help="CPUs to reserve for each trial.")] = 1.0,
    gpu: Annotated[bool, typer.Option("--gpu", help="One GPU for each trial.")] = False,
    at_once: Annotated[int | None, typer.Option(min=1, help="Trials at the same time (default: what the cluster has room for).")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a field of the recipe: a.b=value.")] = None,
    seed: Annotated[int, typer.Option(help="Of the settings that are drawn.")] = 0,
) -> None:
    """Try settings around a recipe on Ray Tune: val decides, test is looked at once. The same command goes on where it was interrupted."""
    from prodrec.files import Folder
    from prodrec.recipes import load_recipe
    from prodrec.shards.folds import without_test
    from prodrec.shards.reading import open_shards
    from prodrec.training.trials import enter_trials, is_over, outcome, winner, write_recipe, write_table

    chosen, opened = load_recipe(recipe, set_), open_shards(shards)
    settings, entries = enter_trials(chosen, trials, seed, opened, out)
    with interruption("interrupted; the same command goes on: trials go on from their last checkpoints"):
        if not all(is_over(entry) for entry in entries):
            from prodrec.cluster.tune import Places, run_trials

            announce_ray()
            run_trials(entries, without_test(opened), Places(cpus_per_trial, gpu, at_once), print)
    found = [outcome(number, one, entry) for number, (one, entry) in enumerate(zip(settings, entries, strict=True))]
    metric, folder = chosen.train.early_stop.metric, Folder(out)
    write_table(folder, found, metric)
    best = winner(found, metric)
    write_recipe(folder, entries[best.number].recipe, f"{chosen.name}-tuned")
    print(_compared(best, found[0], metric))
    _keep(folder, entries[best.number].run, opened.uri, bool(opened.split("test").rows), gpu)
    print(f"{out}/trials.csv, {out}/recipe.yaml, {out}/bundle")


def _compared(best: "Trial", first: "Trial", metric: str) -> str:
    changes = ", ".join(f"{path}={value}" for path, value in best.settings.items()) or "the recipe as it is"
    before = f"{first.best:.3f}{'' if first.status == 'finished' else f' when it was {first.status}'}" if first.best is not None else "failed"
    return f"best: trial {best.number}, {metric} {best.best:.3f} ({changes}); the recipe as it is: {before}"


def _keep(out: "Folder", run: "Folder", shards: str, has_test: bool, gpu: bool) -> None:
    """The bundle of the best trial; test judges it, and no other."""
    from prodrec.evaluation.summary import headline, judgement
    from prodrec.models.bundle_files import copy_bundle, load_info, rewrite_info
    from prodrec.reports.judge import judge
    from prodrec.training.records import BUNDLE

    bundle = out / BUNDLE
    copy_bundle(run / BUNDLE, bundle)
    if not has_test:
        return
    metrics = judged(judge, gpu, bundle, shards, "test", out / "test")
    info = load_info(bundle)
    rewrite_info(bundle, info.model_copy(update={"metrics": info.metrics | headline(metrics)}))
    print(judgement(metrics))
