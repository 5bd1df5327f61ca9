"""The command line. Heavy imports stand inside the commands, so that `prodrec --help` is quick.

Exit codes: 0 done; 2 the command line or a file is wrong (one line on stderr); 1 anything else.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prodrec.errors import ConfigError, ProdrecError

if TYPE_CHECKING:
    from prodrec.config import Recipe

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Out = Annotated[str, typer.Option("--out", help="Output folder (local path or URI).")]


@app.callback()
def _root() -> None:
    """Visual product recognition at catalogue scale, on Ray."""


@app.command()
def sample(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    products: Annotated[int, typer.Option(help="Number of products.")] = 24,
    images: Annotated[int, typer.Option(help="Number of good images, train and test together.")] = 1200,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    scenes: Annotated[bool, typer.Option("--scenes", help="Scenes of several products with boxes instead, as a COCO set.")] = False,
    packshots: Annotated[str | None, typer.Option(help="For --scenes: your product photos on white or with alpha, LABEL/image or LABEL.png.")] = None,
) -> None:
    """Write the embedded sample catalogue: procedural product photos as a source in Products-10K layout."""
    from prodrec.data.sample import empty_folder, product_cutouts, read_cutouts, write_sample, write_scenes

    if packshots and not scenes:
        raise ConfigError("--packshots is for --scenes; add that")
    if scenes:
        cutouts, refused = read_cutouts(packshots) if packshots else (product_cutouts(products, seed), [])
        composed = write_scenes(empty_folder(out), cutouts, images, seed)
        by_split = ", ".join(f"{count} {split}" for split, count in composed.scenes.items())
        print("\n".join([*(f"left out {line}" for line in refused), f"{out}: scenes: {by_split}; {composed.boxes} boxes of {composed.labels} labels"]))
        return
    made = write_sample(out, products, images, seed)
    print(f"{out}: {made.train} training and {made.test} test photos of {made.products} products in {made.groups} groups, and {made.broken} broken files")


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="Products-10K folder, ImageFolder, CSV/Parquet manifest, COCO or Pascal-VOC set (local path or URI).")],
    out: Annotated[str, typer.Argument(help="Folder for the shards (local path or URI).")],
    format: Annotated[str, typer.Option(help="auto, products10k, imagefolder, manifest, coco or voc.")] = "auto",
    split: Annotated[str, typer.Option(help="Shares train,val,test (or train,test) for images without a publisher's split.")] = "0.8,0.1,0.1",
    short_side: Annotated[int, typer.Option(min=32, max=4096, help="Pixels; larger images are shrunk to it.")] = 320,
) -> None:
    """Prepare a source into shards: decode, check, shrink, hash, divide."""
    from prodrec.data.sources import open_source
    from prodrec.data.split import parse_fractions

    fractions = parse_fractions(split)
    opened = open_source(source, format)
    print(opened.description, flush=True)

    from prodrec.cluster.prepare import PrepareOptions, prepare
    from prodrec.display import prepare_display

    _announce_ray()
    with prepare_display() as display:
        manifest = prepare(opened, out, PrepareOptions(short_side=short_side, fractions=fractions), display)
    rejected = sum(manifest.rejects.values())
    print(f"{manifest.rows_in} rows in = {manifest.rows_ok} ok + {rejected} rejected")
    for code, count in manifest.rejects.items():
        print(f"  {code}: {count}")
    if manifest.boxes:
        print(f"boxes of the ok rows: {manifest.boxes.ok} ok ({manifest.boxes.clipped} clipped to their picture) + {manifest.boxes.rejected} rejected")
    print(f"{out}: {', '.join(f'{manifest.rows(name)} {name}' for name in manifest.splits)}; {len(manifest.labels)} labels")


@app.command()
def train(
    shards: Annotated[str, typer.Argument(help="Prepared data set.")],
    out: Out,
    recipe: Annotated[str | None, typer.Option(help="Name of a recipe, or a YAML file (default resnet50, or the one that the bundle of --from has).")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Bundle to go on from: its layers and labels are kept, new labels are added.")] = None,
    freeze: Annotated[int | None, typer.Option(min=0, help="Keep the first N layers of a tagger's backbone as they are.")] = None,
    workers: Annotated[str, typer.Option(help="Training processes: N, or MIN:MAX for an elastic run.")] = "1",
    gpu: Annotated[bool, typer.Option("--gpu", help="One GPU for each worker.")] = False,
    cpus_per_worker: Annotated[float | None, typer.Option(help="CPUs to reserve for each worker.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a field of the recipe: a.b=value.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    local: Annotated[bool, typer.Option("--local", help="One process, without Ray.")] = False,
) -> None:
    """Train a recipe on shards; leaves metrics, checkpoints, a report and a bundle in --out."""
    from prodrec.data.shards import open_shards
    from prodrec.display import run_display
    from prodrec.training.records import finished_summary, is_finished, recipe_of, start_run

    overrides = [*(set_ or []), *([f"model.freeze_layers={freeze}"] if freeze is not None else [])]
    before = recipe_of(out) if resume and not (recipe or from_ or overrides) else None
    chosen = before or _chosen_recipe(recipe, from_, overrides)
    least, most = _worker_range(workers)
    if local and (most > 1 or cpus_per_worker):
        raise ConfigError("--local is one process on all cores; leave out --workers and --cpus-per-worker, or --local")
    opened = open_shards(shards)
    run = start_run(out, chosen, opened.uri, resume, "local" if local else "ray")
    if is_finished(run):
        print(f"{out} is finished already\n{finished_summary(run)}")
        return
    if not local:
        _announce_ray()
    with run_display() as display, _interruption(f"interrupted; go on with the same command and --resume, {out} keeps what was finished"):
        if local:
            from prodrec.training.local import train_local

            train_local(chosen, opened, run, display, gpu=gpu)
        else:
            from prodrec.cluster.train import Workers
            from prodrec.cluster.train import train as train_on_cluster

            train_on_cluster(chosen, opened, run, Workers(least, most, gpu, cpus_per_worker), display)
    print(finished_summary(run))


@app.command()
def evaluate(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle.")],
    shards: Annotated[str, typer.Argument(help="Prepared data set.")],
    out: Out,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    gpu: Annotated[bool, typer.Option("--gpu", help="Score on a GPU.")] = False,
) -> None:
    """Judge a bundle on a split; writes metrics.json and index.html. Within a Ray job it runs as a task of the cluster, else here."""
    from prodrec.evaluation.summary import judgement

    if os.environ.get("RAY_ADDRESS"):
        from prodrec.cluster.evaluate import evaluate_on_cluster

        metrics = evaluate_on_cluster(bundle, shards, split, out, gpu)
    else:
        from prodrec.evaluation.judge import judge

        metrics = judge(bundle, shards, split, out, gpu=gpu)
    print(judgement(metrics))
    print(f"{out}/metrics.json, {out}/index.html")


@app.command()
def recognize(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    classifier: Annotated[str | None, typer.Option(help="Bundle of a classifier: which product is it?")] = None,
    tagger: Annotated[str | None, typer.Option(help="Bundle of a tagger: what is on the picture, and where?")] = None,
    draw: Annotated[Path | None, typer.Option(help="Write the picture with its boxes here (of one image: a file; of several: a folder).")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Least score of a tag (default: that of its label in the bundle).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="Score on a GPU.")] = False,
) -> None:
    """Say which product images show, and what is on them."""
    from prodrec.machine import torch_device
    from prodrec.scoring import Recognizer
    from prodrec.scoring.show import describe, draw_tags, read_image_file

    targets = {image: draw if len(images) == 1 else draw / f"{image.stem}.png" for image in images} if draw else {}
    _check_targets(targets)
    data = [read_image_file(image) for image in images]
    recognizer = Recognizer.load(classifier, tagger, torch_device(gpu).type, threshold=threshold)
    answers = recognizer.recognize(data)
    for image, content, answer in zip(images, data, answers, strict=True):
        print(describe(image, answer, as_json))
        if draw and not answer.code:
            draw_tags(content, answer, targets[image])
            if not as_json:
                print(f"  drawn: {targets[image]}")
    if all(answer.code for answer in answers):
        raise typer.Exit(2)


def _announce_ray() -> None:
    if not os.environ.get("RAY_ADDRESS"):
        print("starting Ray on this machine ...", flush=True)


@contextmanager
def _interruption(advice: str) -> Iterator[None]:
    """Ctrl-C says what to do next."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise ProdrecError(advice) from error


def _check_targets(targets: dict[Path, Path]) -> None:
    """Of `--draw`: by image."""
    for image, target in targets.items():
        if target.suffix.lower() != ".png":
            raise ConfigError(f"--draw {target}: pictures are written as PNG; give a name that ends in .png")
        if len(targets) > 1 and target.parent.is_file():
            raise ConfigError(f"--draw {target.parent} is a file; give a folder for several images")
        if any(target.resolve() == other.resolve() for other in targets):
            raise ConfigError(f"--draw would overwrite the image {image}; choose another place")
    if len(set(targets.values())) < len(targets):
        raise ConfigError("--draw: two of the images have the same name and would be drawn to one file; rename one, or draw them one by one")


def _chosen_recipe(name_or_path: str | None, bundle: str | None, overrides: list[str]) -> "Recipe":
    if bundle:
        from prodrec.models.start import continued_recipe

        return continued_recipe(bundle, name_or_path, overrides)
    from prodrec.recipes import load_recipe

    return load_recipe(name_or_path or "resnet50", overrides)


def _worker_range(text: str) -> tuple[int, int]:
    parts = text.split(":")
    if not all(part.isdecimal() for part in parts) or len(parts) > 2 or not 1 <= int(parts[0]) <= int(parts[-1]):
        raise ConfigError(f"--workers {text}: expected a number such as 4, or a range such as 2:8")
    return int(parts[0]), int(parts[-1])


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits."""
    # Read when torch is imported, here and in the processes of a local Ray. Threads that wait by spinning take the cores from
    # those that decode: 26 against 107 images/s on two busy cores. Source: docs/log.md 2026-11-20.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app(arguments, prog_name="prodrec")
    except ProdrecError as error:
        print(f"prodrec: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
