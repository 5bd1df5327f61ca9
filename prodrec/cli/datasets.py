"""Commands that make data sets."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from prodrec.cli.app import announce_ray, app
from prodrec.errors import ConfigError


@app.command()
def sample(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    products: Annotated[int, typer.Option(help="Number of products.")] = 24,
    images: Annotated[int, typer.Option(help="Number of good images, train and test together.")] = 1200,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    scenes: Annotated[bool, typer.Option("--scenes", help="Scenes of several products with boxes instead, as a COCO set.")] = False,
    views: Annotated[bool, typer.Option("--views", help="Listings of 2 to 5 photos instead, none of which alone tells the product: a manifest.")] = False,
    packshots: Annotated[str | None, typer.Option(help="For --scenes: your product photos on white or with alpha, LABEL/image or LABEL.png.")] = None,
) -> None:
    """Write the embedded sample catalogue: procedural product photos as a source in Products-10K layout, or as --scenes or --views."""
    from prodrec.sample import empty_folder, product_cutouts, read_cutouts, write_sample, write_scenes, write_views

    if scenes and views:
        raise ConfigError("--scenes and --views are two kinds of samples; choose one")
    if packshots and not scenes:
        raise ConfigError("--packshots is for --scenes; add that")
    if scenes:
        cutouts, refused = read_cutouts(packshots) if packshots else (product_cutouts(products, seed), [])
        composed = write_scenes(empty_folder(out), cutouts, images, seed)
        by_split = ", ".join(f"{count} {split}" for split, count in composed.scenes.items())
        print("\n".join([*(f"left out {line}" for line in refused), f"{out}: scenes: {by_split}; {composed.boxes} boxes of {composed.labels} labels"]))
        return
    if views:
        shown = write_views(out, products, images, seed)
        counts = f"{shown.train} training and {shown.test} test listings of {shown.products} products, {shown.images} photos"
        print(f"{out}: {counts}; one photo alone tells the product in {shown.best_single_view:.1%} of the cases at best")
        return
    made = write_sample(out, products, images, seed)
    print(f"{out}: {made.train} training and {made.test} test photos of {made.products} products in {made.groups} groups, and {made.broken} broken files")


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="Folder of images, manifest or annotated set (README: sources); local path or URI.")],
    out: Annotated[str, typer.Argument(help="Folder for the shards (local path or URI).")],
    format: Annotated[str, typer.Option(help="auto, or the name of a layout (README: sources).")] = "auto",
    split: Annotated[str, typer.Option(help="Shares train,val,test (or train,test) for images without a publisher's split.")] = "0.8,0.1,0.1",
    short_side: Annotated[int, typer.Option(min=32, max=4096, help="Pixels; larger images are shrunk to it.")] = 320,
    boxes_on: Annotated[
        Literal["auto", "stored", "upright"],
        typer.Option(help="Of photos that EXIF turns, what their boxes were drawn on: stored, upright, or auto: what the annotated size tells."),
    ] = "auto",
    keep_split: Annotated[list[str] | None, typer.Option(help="Earlier shards (may be repeated): their images stay in the split they had there.")] = None,
) -> None:
    """Prepare a source into shards: decode, check, shrink, hash, divide."""
    from prodrec.shards.reading import open_shards
    from prodrec.shards.split import parse_fractions
    from prodrec.sources.source import open_source

    fractions, earlier = parse_fractions(split), [open_shards(uri) for uri in keep_split or []]
    opened = open_source(source, format)
    print(opened.description, flush=True)

    from prodrec.cli.display import prepare_display
    from prodrec.cli.preparing import told_splits, told_turned
    from prodrec.cluster.prepare import PrepareOptions, prepare

    announce_ray()
    with prepare_display() as display:
        manifest = prepare(opened, out, PrepareOptions(short_side=short_side, fractions=fractions, boxes_on=boxes_on), display, earlier)
    rejected = sum(manifest.rejects.values())
    print(f"{manifest.rows_in} rows in = {manifest.rows_ok} ok + {rejected} rejected")
    for code, count in manifest.rejects.items():
        print(f"  {code}: {count}")
    if manifest.boxes:
        print(f"boxes of the ok rows: {manifest.boxes.ok} ok ({manifest.boxes.clipped} clipped to their picture) + {manifest.boxes.rejected} rejected")
        print("".join(f"{line}\n" for line in told_turned(manifest.boxes.turned)), end="")
    print(told_splits(manifest.split_origin))
    print(f"{out}: {', '.join(f'{manifest.rows(name)} {name}' for name in manifest.splits)}; {len(manifest.labels)} labels")
