"""Commands that use bundles."""

from pathlib import Path
from typing import Annotated

import typer

from prodrec.cli.app import Gpu, app
from prodrec.errors import ConfigError


@app.command()
def recognize(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    classifier: Annotated[str | None, typer.Option(help="Bundle of a classifier: which product is it?")] = None,
    tagger: Annotated[str | None, typer.Option(help="Bundle of a tagger: what is on the picture, and where?")] = None,
    draw: Annotated[Path | None, typer.Option(help="Write the picture with its boxes here (of one image: a file; of several: a folder).")] = None,
    policy: Annotated[str | None, typer.Option(help="YAML file: what a person must look at (docs/operations.md).")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Least score of a tag (default: that of its label in the bundle).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    gpu: Gpu = False,
) -> None:
    """Say which product images show, and what is on them. To a classifier that fuses views they are the views of one product, in order."""
    from prodrec.machine import torch_device
    from prodrec.scoring import Recognizer
    from prodrec.scoring.decision import Decider
    from prodrec.scoring.policy import load_policy
    from prodrec.scoring.show import describe, describe_views, draw_tags, read_image_file

    targets = {image: draw if len(images) == 1 else draw / f"{image.stem}.png" for image in images} if draw else {}
    _check_targets(targets)
    data = [read_image_file(image) for image in images]
    recognizer = Recognizer.load(classifier, tagger, device=torch_device(gpu).type, threshold=threshold)
    decider = Decider(recognizer.classifier_info, recognizer.tagger_info, load_policy(policy))
    [answers] = recognizer.recognize_listings([data])
    if recognizer.fuses:
        print(describe_views(images, answers, decider.decide(answers), as_json))
    for image, content, answer in zip(images, data, answers, strict=True):
        if not recognizer.fuses:
            print(describe(image, answer, decider.decide([answer]), as_json))
        if draw and not answer.code:
            draw_tags(content, answer, targets[image])
            if not as_json:
                print(f"  drawn: {targets[image]}")
    if all(answer.code for answer in answers):
        raise typer.Exit(2)


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(help="Image file.")],
    classifier: Annotated[str, typer.Option(help="Bundle of a classifier.")],
    out: Annotated[Path, typer.Option("--out", help="PNG to write: the picture with its heat over it.")],
    label: Annotated[str | None, typer.Option(help="Product to explain (default: the likeliest).")] = None,
    method: Annotated[str, typer.Option(help="occlusion (what hiding costs), gradcam (quick and coarse), or attention (of attention_cnn).")] = "occlusion",
    size: Annotated[int | None, typer.Option(min=1, help="Side of the occluder, pixels of the model input (default: a seventh of it).")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Pixels between its places (default: half of its side).")] = None,
    fill: Annotated[str, typer.Option(help="Its colour: mean (of the picture), grey, black or white.")] = "mean",
    gpu: Gpu = False,
) -> None:
    """Show on which part of a picture the answer rests."""
    from prodrec.labels import shown
    from prodrec.machine import torch_device
    from prodrec.models.bundle import load_bundle
    from prodrec.scoring.explain import METHODS, explain_file
    from prodrec.scoring.occlusion import OccluderConfig

    _check_targets({image: out}, "--out")
    chosen = next((known for known in METHODS if known == method), None)
    if chosen is None or fill not in ("mean", "grey", "black", "white"):
        raise ConfigError(f"--method {method} --fill {fill}: methods are {', '.join(METHODS)}; fills are mean, grey, black and white")
    device = torch_device(gpu).type
    occluder = OccluderConfig.model_validate({"size": size, "stride": stride, "fill": fill})
    heat_map = explain_file(load_bundle(classifier, device, "classifier"), image, out, label, chosen, occluder, device)
    print(f"{image}: {shown(heat_map.label, heat_map.title)} {heat_map.probability:.1%}\n  drawn: {out}")


def _check_targets(targets: dict[Path, Path], option: str = "--draw") -> None:
    """Of the option that names them: by image."""
    for image, target in targets.items():
        if target.suffix.lower() != ".png":
            raise ConfigError(f"{option} {target}: pictures are written as PNG; give a name that ends in .png")
        if len(targets) > 1 and target.parent.is_file():
            raise ConfigError(f"{option} {target.parent} is a file; give a folder for several images")
        if any(target.resolve() == other.resolve() for other in targets):
            raise ConfigError(f"{option} would overwrite the image {image}; choose another place")
    if len(set(targets.values())) < len(targets):
        raise ConfigError("--draw: two of the images have the same name and would be drawn to one file; rename one, or draw them one by one")
