"""Evaluation and report at catalogue scale: so many rows and classes, on real shards of tiny images.

The forward pass is a stand-in for a model: random logits of the asked number of classes that know the label half of the time. What is
timed is all the rest: keeping the predictions, metrics, temperature, report with its pictures. Told are seconds, the process's most
resident memory, and the sizes of the page and metrics.json.

Not covered: reading and decoding of the judged images (benchmarks/feed.py), accuracy.
"""

import argparse
import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prodrec.evaluation.metrics import evaluate
from prodrec.evaluation.predict import predict
from prodrec.files import Folder
from prodrec.images.decode import prepare_image
from prodrec.reports.page import page_facts
from prodrec.reports.report import ReportData, write_report
from prodrec.sample import write_sample
from prodrec.shards.assemble import assemble
from prodrec.shards.reading import Shards, open_shards
from prodrec.shards.split import Fractions
from prodrec.shards.staging import stage, start_output
from prodrec.shards.stream import Batch

_SIDE_PX, _PICTURES, _AT_ONCE = 64, 300, 256


def write_shards(scratch: Path, rows: int, classes: int) -> Shards:
    """All rows in test, but for one training image of each class."""
    write_sample(scratch / "sample", images=_PICTURES)
    images = [prepare_image(photo.read_bytes(), _SIDE_PX) for photo in sorted((scratch / "sample").glob("*/[0-9]*.jpg"))]
    out = start_output(str(scratch / "shards"))
    said = [("train", number) for number in range(classes)] + [("test", number % classes) for number in range(rows)]
    for start in range(0, len(said), 4096):
        staged = []
        for number, (split, label) in enumerate(said[start : start + 4096], start):
            made = images[number % len(images)]
            sha256 = hashlib.sha256(str(number).encode()).hexdigest()
            facts = {"width": made.width, "height": made.height, "source_width": made.width, "source_height": made.height, "sha256": sha256}
            staged.append(facts | {"image": made.jpeg, "phash": number, "uri": f"{number}.jpg", "label": f"product {label:05d}", "split": split})
        stage(out, start, staged)
    provenance = {"source": "synthetic", "source_format": "synthetic", "code_version": "", "short_side": _SIDE_PX, "jpeg_quality": 90}
    assemble(out, Fractions(1.0, 0.0, 0.0), provenance, len(said))
    return open_shards(out.uri)


def forward(labels_B: torch.Tensor, classes: int, generator: torch.Generator) -> torch.Tensor:
    """[B, K] logits: the label's is raised by 6 in half of the rows."""
    logits_BK = torch.randn(len(labels_B), classes, generator=generator)
    knows = torch.rand(len(labels_B), generator=generator) < 0.5
    logits_BK[torch.arange(len(labels_B)), labels_B] += 6.0 * knows
    return logits_BK


def judged(shards: Shards, out: Folder) -> dict[str, Any]:
    """Predictions, metrics and report of test; seconds beside the forward pass by part."""
    labels, generator, spent = shards.manifest.labels, torch.Generator().manual_seed(0), {"forward": 0.0, "predictions": 0.0}
    ids = torch.from_numpy(shards.split("test").column("label_id").to_numpy().astype(np.int64))

    def batches() -> Iterator[Batch]:
        for rows in torch.arange(len(ids)).split(_AT_ONCE):
            yield Batch(rows, ids[rows], rows)

    def logits(rows: torch.Tensor) -> torch.Tensor:
        began = time.monotonic()
        logits_BK = forward(ids[rows], len(labels), generator)
        spent["forward"] += time.monotonic() - began
        return logits_BK

    began = time.monotonic()
    predictions = predict(logits, batches(), torch.device("cpu"), "fp32")
    spent["predictions"] = time.monotonic() - began - spent["forward"]
    began = time.monotonic()
    metrics = evaluate(predictions, labels, shards.class_counts("train").tolist(), 1.0, "test")
    spent["metrics"] = time.monotonic() - began
    began = time.monotonic()
    page = page_facts(shards, "test", {"name": "synthetic"}, labels, shards.photos, [])
    write_report(out, ReportData(metrics={"test": metrics}, predictions=predictions, temperature=1.0, **page))
    out.write("metrics.json", json.dumps(metrics, indent=1).encode())
    return spent | {"report": time.monotonic() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=142_000)
    parser.add_argument("--classes", type=int, default=9_691)
    given = parser.parse_args()
    torch.set_num_threads(1)  # threads that wait for each other on a busy machine would be all that is measured
    with tempfile.TemporaryDirectory() as scratch:
        began = time.monotonic()
        shards = write_shards(Path(scratch), given.rows, given.classes)
        print(
            f"{given.rows:,} rows of {given.classes:,} classes, staged and assembled in {time.monotonic() - began:.0f} s; {_resident_mb():,.0f} MB", flush=True
        )
        began = time.monotonic()
        opened = open_shards(shards.uri)
        counts = opened.class_counts("test")
        print(f"opened and counted {counts.sum():,} labels in {time.monotonic() - began:.2f} s")
        spent = judged(opened, Folder(f"{scratch}/out").make())
        beyond = sum(seconds for name, seconds in spent.items() if name != "forward")
        print(", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items()))
        sizes = {name: (Path(scratch) / "out" / name).stat().st_size / 2**20 for name in ("index.html", "metrics.json")}
        print(f"beyond the forward pass {beyond:.0f} s; most resident {_resident_mb():,.0f} MB; " + ", ".join(f"{k} {v:.2f} MB" for k, v in sizes.items()))


def _resident_mb() -> float:
    """Most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
