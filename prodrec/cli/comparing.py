"""Commands that choose among bundles: compare, and the registry of those that were shipped."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from prodrec.cli.app import Gpu, Out, announce_ray, app, interruption, judged, worker_range
from prodrec.errors import ConfigError, ProdrecError

if TYPE_CHECKING:
    from prodrec.shards.reading import Shards
    from prodrec.training.comparison_runs import Entry

registry_app = typer.Typer(no_args_is_help=True, help="The bundles that were shipped, and which one is current.")
app.add_typer(registry_app, name="registry")

RegistryDir = Annotated[str, typer.Option("--registry", help="The registry's folder (local path or URI).")]
Kind = Annotated[str, typer.Option(help="classifier or tagger.")]


@app.command()
def compare(
    shards: Annotated[str, typer.Argument(help="Prepared data set.")],
    out: Out,
    recipes: Annotated[str, typer.Option(help="Names of recipes or YAML files, with commas between them.")],
    workers: Annotated[str, typer.Option(help="Training processes of each run: N, or MIN:MAX.")] = "1",
    gpu: Annotated[bool, typer.Option("--gpu", help="One GPU for each worker, and one to judge on.")] = False,
    cpus_per_worker: Annotated[float | None, typer.Option(help="CPUs to reserve for each worker.")] = None,
    at_once: Annotated[int | None, typer.Option(min=1, help="Runs at the same time (default: what the cluster has room for now).")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a field of all recipes: a.b=value.")] = None,
    local: Annotated[bool, typer.Option("--local", help="One after another in this process, without Ray.")] = False,
    promote: Annotated[bool, typer.Option("--promote", help="Promote the recommended bundle if it beats the registry's current one.")] = False,
    registry: Annotated[str | None, typer.Option(help="The registry's folder (with --promote).")] = None,
) -> None:
    """Train recipes on the same shards and say which bundle to ship; the same command goes on where it was interrupted."""
    from prodrec.recipes import load_recipe
    from prodrec.registry.comparing import compare as judge_runs
    from prodrec.reports.compare_page import summary_lines
    from prodrec.shards.reading import open_shards
    from prodrec.training.comparison_runs import enter, finished_runs, tell_mlflow

    if promote != bool(registry):
        raise ConfigError("--promote and --registry DIR belong together: give both, or none")
    if local and (workers != "1" or cpus_per_worker or at_once):
        raise ConfigError("--local is one process on all cores; leave out --workers, --cpus-per-worker and --at-once, or --local")
    names = [name.strip() for name in recipes.split(",") if name.strip()]
    chosen, opened = [load_recipe(name, set_) for name in names], open_shards(shards)
    if not chosen:
        raise ConfigError("--recipes names none; give names of recipes with commas between them")
    if registry:
        _check_promotable(registry, opened.uri)
    spread = worker_range(workers)
    launcher = "local" if local else "ray"
    entries = enter(chosen, opened, out, launcher)
    with interruption(f"interrupted; the same command goes on: {out} keeps the runs that finished, and others go on from their last checkpoint"):
        failures = _train_here(entries, opened, gpu) if local else _train_on_ray(entries, opened, (*spread, gpu, cpus_per_worker), at_once)
        found = judged(judge_runs, gpu, finished_runs(entries), failures, opened.uri, out, launcher, registry)
    print("\n".join(summary_lines(found)))
    print(f"{len(found['runs'])} of {len(entries)} runs finished; {out}/index.html, {out}/compare.json")
    tell_mlflow(entries, opened)
    if not found["runs"]:
        raise ProdrecError(f"none of the {len(entries)} runs finished; the reasons stand above and in {out}/index.html")


def _check_promotable(registry: str, shards: str) -> None:
    """What would be found wrong after hours of training."""
    from prodrec.registry.promotion import check_val
    from prodrec.registry.releases import Registry

    check_val(shards)
    Registry(registry).pointer()


def _train_here(entries: "list[Entry]", shards: "Shards", gpu: bool) -> dict[str, str]:
    from prodrec.cli.display import runs_display
    from prodrec.training.comparison_runs import train_all
    from prodrec.training.local import train_local

    with runs_display() as watched:
        return train_all(entries, lambda entry: train_local(entry.recipe, shards, entry.run, watched(entry.name), gpu=gpu))


def _train_on_ray(entries: "list[Entry]", shards: "Shards", workers: tuple[Any, ...], at_once: int | None) -> dict[str, str]:
    from prodrec.training.records import is_finished

    if all(is_finished(entry.run) for entry in entries):
        return {}
    from prodrec.cli.display import runs_display
    from prodrec.cluster.compare import train_side_by_side
    from prodrec.cluster.train import Workers

    announce_ray()
    with runs_display() as watched:
        return train_side_by_side(entries, shards, Workers(*workers), watched, at_once)


@registry_app.command("list")
def list_versions(registry: RegistryDir, kind: Kind = "classifier") -> None:
    """Show the versions; the current one is marked."""
    from prodrec.registry.releases import Registry

    found = Registry(registry, kind)
    versions = found.versions()
    if not versions:
        print(f"no {kind} was promoted to {registry} yet")
    for version in versions:
        info, metric = version.info, "top1" if kind == "classifier" else "map"
        value = info.metrics.get(metric)
        told = f"{info.metrics.get('split', 'test')} {metric} {value:.1%}" if isinstance(value, float) else "not measured"
        name = str(info.recipe.get("name", info.model.arch))
        print(f"{'*' if version.is_current else ' '} {version.name}  {info.created}  {told}  {name}  bundle {info.bundle_id}")
    if pointer := found.pointer():
        print(f"current: {pointer.version} since {pointer.when}: {pointer.why}")


@registry_app.command("promote")
def promote_bundle(
    registry: RegistryDir,
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle.")],
    shards: Annotated[str | None, typer.Argument(help="Prepared data set whose val split decides.")] = None,
    force: Annotated[str | None, typer.Option(help="Promote without judging, for this reason, which is kept.")] = None,
    kind: Kind = "classifier",
    gpu: Gpu = False,
) -> None:
    """Make a bundle current if it beats the one that is, on val of the shards."""
    from prodrec.registry.promotion import promote_if_better
    from prodrec.registry.releases import Registry

    found = Registry(registry, kind)
    if force is not None:
        if shards or not force.strip():
            raise ConfigError("--force takes a reason instead of shards; give one of the two")
        pointer = found.promote(bundle, f"forced: {force.strip()}")
        print(f"{pointer.version} is current in {registry}: {pointer.why}")
        return
    if not shards:
        raise ConfigError("give the shards whose val split decides, or --force REASON")
    promotion = judged(promote_if_better, gpu, found, bundle, shards)
    if not promotion.promoted:
        raise ProdrecError(f"not promoted, {promotion.version or 'nothing'} is current: {promotion.why}; --force REASON overrules")
    print(f"{promotion.version} is current in {registry}: {promotion.why}")


@registry_app.command("rollback")
def roll_back(registry: RegistryDir, why: Annotated[str, typer.Option(help="Reason, which is kept.")] = "rollback", kind: Kind = "classifier") -> None:
    """Make the version current that was so before."""
    from prodrec.registry.releases import Registry

    pointer = Registry(registry, kind).rollback(why)
    print(f"{pointer.version} is current again in {registry}, bundle {pointer.bundle_id}")
