"""Peak resident memory of `prodrec prepare` for two sizes of source: it must not grow with the source.

Resident is the proportional set size (pages that processes share are counted once) summed over the process tree, Ray's object
store included. The photos are a few hundred of the sample catalogue, each copy with a comment of its own, so that all
files differ in their bytes.

Not covered: memory between two looks (two a second), and the page cache.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import psutil
from process_tree import resident_bytes

from prodrec.sample import write_sample

_LOOK_EVERY_S = 0.5
_PHOTOS = 300  # different ones. Source: assumed
_START, _COMMENT = b"\xff\xd8", b"\xff\xfe"  # JPEG markers. Source: ITU-T T.81, table B.1


class Peak(NamedTuple):
    """Most resident bytes at one time, and how long the run took."""

    bytes: int
    wall_s: float


def write_source(folder: Path, photos: list[Path], images: int) -> Path:
    """Writes `images` files, no two alike, and the manifest that names them; the label of a photo is its product."""
    folder.mkdir()
    lines = ["uri,label"]
    for number, photo in enumerate(islice(cycle(photos), images)):
        name = f"{number:07d}.jpg"
        (folder / name).write_bytes(_commented(photo.read_bytes(), f"copy {number}".encode()))
        lines.append(f"{name},{photo.stem.partition('_')[0]}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def prepare_peak(manifest: Path, out: Path) -> Peak:
    """Runs `prodrec prepare` and looks at all its processes until it ends."""
    started, most = time.monotonic(), 0
    with subprocess.Popen([Path(sys.executable).with_name("prodrec"), "prepare", manifest, out]) as run:
        tree = psutil.Process(run.pid)
        while run.poll() is None:
            most = max(most, resident_bytes(tree))
            with suppress(subprocess.TimeoutExpired):
                run.wait(_LOOK_EVERY_S)
    if run.returncode:
        sys.exit(f"prodrec prepare ended with exit code {run.returncode}")
    return Peak(most, time.monotonic() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=5_000, help="images of the smaller source (default %(default)s)")
    parser.add_argument("--large", type=int, default=50_000, help="images of the larger source (default %(default)s)")
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sample = Path(scratch) / "sample"
        write_sample(sample, images=_PHOTOS)
        photos = sorted(sample.glob("*/[0-9]*.jpg"))  # the broken ones have no number
        peaks = []
        for images in (sizes.small, sizes.large):
            manifest = write_source(Path(scratch) / f"source-{images}", photos, images)
            peaks.append(prepare_peak(manifest, Path(scratch) / f"shards-{images}"))
    print(f"\n{'images':>10}{'peak MB':>10}{'minutes':>10}")
    for images, peak in zip((sizes.small, sizes.large), peaks, strict=True):
        print(f"{images:10,}{peak.bytes / 2**20:10,.0f}{peak.wall_s / 60:10.1f}")
    print(f"{sizes.large / sizes.small:.1f} times the images, {peaks[1].bytes / peaks[0].bytes:.2f} times the memory")


def _commented(jpeg: bytes, comment: bytes) -> bytes:
    """The JPEG with a comment segment; its length counts itself (2 bytes)."""
    return _START + _COMMENT + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg.removeprefix(_START)


if __name__ == "__main__":
    main()
