"""`prepare` of many small images with one and with two workers: both phases must scale, and the driver must not grow with the bytes.

Each run is a process of its own with a Ray of so many CPUs. The images are small JPEGs within a Parquet manifest, no two alike. Told
are images/s of the first phase (decode, check, hash, stage), seconds of the second (split, write the shards), and the driver's most
resident memory (its own, without workers and object store) with how much of it came after it was started and had the source listed.

Not covered: fetching from object stores, large photos (benchmarks/memory.py).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_SIDE_PX, _PICTURES, _LABELS, _AT_ONCE = 64, 500, 1000, 5000
_START, _COMMENT = b"\xff\xd8", b"\xff\xfe"  # JPEG markers. Source: ITU-T T.81, table B.1


def write_source(path: Path, images: int) -> Path:
    """A Parquet manifest with so many images in it."""
    from prodrec.sample import write_sample

    write_sample(path.parent / "sample", images=_PICTURES)
    from prodrec.images.decode import prepare_image

    photos = [prepare_image(photo.read_bytes(), _SIDE_PX).jpeg for photo in sorted((path.parent / "sample").glob("*/[0-9]*.jpg"))]
    writer = None
    for start in range(0, images, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, images))
        data = [_commented(photos[i % len(photos)], f"copy {i}".encode()) for i in numbers]
        table = pa.table({"bytes": pa.array(data, pa.binary()), "label": [f"product {i % _LABELS:04d}" for i in numbers]})
        writer = writer or pq.ParquetWriter(path, table.schema, compression="none")
        writer.write_table(table, row_group_size=500)
    if writer:
        writer.close()
    return path


def prepare_here(source: str, out: str, workers: int) -> dict[str, float]:
    """In this process, which is the driver."""
    from prodrec.cluster.session import ray_session  # first: sets what ray reads on import

    # isort: split
    import ray

    from prodrec.cluster import prepare as preparing
    from prodrec.shards.preparing import PrepareOptions
    from prodrec.sources.source import open_source

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    opened = open_source(source)
    with ray_session():
        before, started, staged = _resident_mb(), time.monotonic(), list[float]()
        manifest = preparing.prepare(opened, out, PrepareOptions(short_side=_SIDE_PX), lambda done, _, total: staged.append(time.monotonic()))
        ended = time.monotonic()
    shards = sum(len(files) for files in manifest.splits.values())
    told = {"shards": shards, "stage_s": staged[-1] - started, "assemble_s": ended - staged[-1]}
    return told | {"before": before, "peak": _resident_mb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--here", nargs=3, metavar=("SOURCE", "OUT", "WORKERS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        source, out, workers = given.here
        print(json.dumps(prepare_here(source, out, int(workers))))
        return
    print(f"{'images':>9}{'workers':>9}{'shards':>8}{'staged/s':>10}{'assemble s':>12}{'all s':>8}{'driver MB':>11}{'of it new':>11}")
    with tempfile.TemporaryDirectory() as scratch:
        for images, workers in ((given.images // 4, 2), (given.images, 2), (given.images, 1)):
            folder = Path(scratch) / f"{images}-{workers}"
            folder.mkdir()
            source = write_source(folder / "m.parquet", images)
            ran = subprocess.run([sys.executable, __file__, "--here", source, folder / "out", str(workers)], check=True, capture_output=True, text=True)
            told = json.loads(ran.stdout.splitlines()[-1])
            whole = told["stage_s"] + told["assemble_s"]
            figures = f"{told['shards']:8}{images / told['stage_s']:10,.0f}{told['assemble_s']:12.1f}{whole:8.1f}"
            print(f"{images:9,}{workers:9}{figures}{told['peak']:11,.0f}{told['peak'] - told['before']:11,.0f}", flush=True)


def _resident_mb() -> float:
    """Most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _commented(jpeg: bytes, comment: bytes) -> bytes:
    """The JPEG with a comment segment; its length counts itself (2 bytes)."""
    return _START + _COMMENT + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg.removeprefix(_START)


if __name__ == "__main__":
    main()
