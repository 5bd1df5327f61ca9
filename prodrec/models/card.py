"""The README.md of a bundle: a model card that a person reads before using it. Nothing reads it back."""

import re
from typing import Any

from prodrec.models.bundle_info import BundleInfo, ClassifierInfo, TaggerInfo

# Source: assumed; enough to see what a bundle is about, the full list is in bundle.json.
LISTED_LABELS = 30

METRIC_NAMES = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "macro_f1": "macro F1",
    "ece": "expected calibration error",
    "map": "mAP (COCO, IoU 0.5 to 0.95)",
    "ap50": "AP at IoU 0.5",
    "precision": "precision of the tags",
    "recall": "recall of the tags",
}

CARD = """\
# {title}

{purpose}

## Results

{results}

## Intended use

{use}

## Limits

{limits}
- Results hold for photos like the training data; measure again on your own before relying on them.

## Training data

{trained_on}. The prepared data set's content has the sha256 `{data_sha256}`.

Labels: {labels}

## Preprocessing

Images are turned upright, made RGB, brought to {size} x {size} pixels ({resize}) and normalised ({normalize}).{mirrored}

## How to load it

```python
from prodrec.models.bundle import load_bundle

bundle = load_bundle("path/of/this/folder")
bundle.model   # normalised float images [B, 3, {size}, {size}] -> {output}{embedding}
bundle.info    # labels, preprocessing, {chosen}, metrics, recipe
```

## Provenance

| | |
|---|---|
| architecture | {arch} |
| created | {created} |
| code | {code_version} |
| sha256 of model.safetensors | `{weights_sha256}` |
"""

_MIRRORED = " The results, and what is served, are the mean of the logits with those of the mirrored image."

_CLASSIFIER_LIMITS = """\
- It knows only the {count} products below. A photo of anything else still gets the label that fits best: look at the
  probability, and send low ones to a person.
- It gives one label an image: of several products in a photo it names one at most.
- Probabilities are calibrated with a temperature of {temperature:.4g}; on other kinds of photos they are less reliable."""

_TAGGER_LIMITS = """\
- It knows only the {count} labels below and passes over everything else on a photo.
- A box becomes a tag where its score reaches the threshold of its label (in bundle.json); scores are no probabilities.
- Things much smaller or larger in the picture than in the training photos are found less well."""

RESIZE_WORDS = {
    "squash": "both sides scaled, whatever the aspect",
    "crop": "short side scaled, then the centre cut out",
    "pad": "long side scaled, then padded with grey",
}


def model_card(info: BundleInfo) -> str:
    """Markdown text about a bundle."""
    return CARD.format(
        title=f"prodrec bundle: {inline(str(info.recipe.get('name', info.model.arch)))}",
        results=_results(info.metrics),
        data_sha256=inline(info.data_manifest_sha256),
        labels=_listed([label.shown for label in info.labels]),
        size=info.input.size,
        resize=RESIZE_WORDS[info.input.resize],
        normalize=info.input.normalize,
        mirrored=_MIRRORED if info.input.flip else "",
        arch=inline(info.model.arch),
        created=inline(info.created),
        code_version=inline(info.code_version),
        weights_sha256=info.weights_sha256,
        **_of_kind(info),
    )


def inline(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line: label names come from strangers' files."""
    return re.sub(r"([\\`*_{}\[\]<>|#&~])", r"\\\1", " ".join(text.split()))


def _of_kind(info: BundleInfo) -> dict[str, str]:
    count = len(info.labels)
    if isinstance(info, TaggerInfo):
        return {
            "purpose": f"Finds what is on an image, and where: boxes with {count} labels and scores.",
            "use": "Tagging photos with what they show, alone or with a person checking.",
            "limits": _TAGGER_LIMITS.format(count=count),
            "trained_on": f"{sum(info.train_boxes):,} boxes of {count} labels",
            "output": "boxes, scores and label ids of each image",
            "embedding": "",
            "chosen": "thresholds",
        }
    assert isinstance(info, ClassifierInfo)
    if info.model.fuse:
        return {
            "purpose": f"Recognises which of {count} products the photos of a listing show: one label and a calibrated probability for each listing.",
            "use": "Tagging listings of the products below, alone or with a person checking what the model is unsure of.",
            "limits": _CLASSIFIER_LIMITS.format(count=count, temperature=info.temperature)
            + f"\n- Of a listing it sees up to {info.model.max_views} photos, fused by {info.model.fuse}; one photo alone may not tell the product.",
            "trained_on": f"{sum(info.train_counts):,} listings of {count} products",
            "output": f"(and int64 lengths [B], which sum to the images) -> logits [B, {count}]",
            "embedding": "",
            "chosen": "temperature",
        }
    return {
        "purpose": f"Recognises which of {count} products an image shows: one label and a calibrated probability for each image.",
        "use": "Tagging photos of the products listed below, alone or with a person checking what the model is unsure of.",
        "limits": _CLASSIFIER_LIMITS.format(count=count, temperature=info.temperature),
        "trained_on": f"{sum(info.train_counts):,} images of {count} products",
        "output": f"logits [B, {count}]",
        "embedding": f"; its described(...) gives embeddings [B, {info.embedding_dim}] as well" if info.embedding_dim else "",
        "chosen": "temperature",
    }


def _results(metrics: dict[str, Any]) -> str:
    found = {name: metrics[name] for name in METRIC_NAMES if isinstance(metrics.get(name), int | float)}
    if not found:
        return "Not measured."
    measured_on = f"Measured on {metrics.get('n', 'an unknown number of')} images of the {inline(str(metrics.get('split', 'unknown')))} split.\n"
    rows = [f"| {METRIC_NAMES[name]} | {value:.4f}{_interval(metrics.get(f'{name}_ci95'))} |" for name, value in found.items()]
    return "\n".join([measured_on, "| metric | value (95% interval) |", "|---|---|", *rows])


def _interval(bounds: Any) -> str:
    if not (isinstance(bounds, list | tuple) and len(bounds) == 2):
        return ""
    return f" ({bounds[0]:.4f} to {bounds[1]:.4f})"


def _listed(names: list[str]) -> str:
    listed = ", ".join(inline(name) for name in names[:LISTED_LABELS])
    more = len(names) - LISTED_LABELS
    return f"{listed} and {more} more (all in bundle.json)" if more > 0 else listed
