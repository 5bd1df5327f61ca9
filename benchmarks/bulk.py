"""`prodrec tag` at size: accounting, a second run, two databases, memory of the driver, and its rate beside a plain loop.

Usage: benchmarks/bulk.py PHOTOS BUNDLE [--listings 20000]

The night (tests/manifests.py): listings drawn from the photos, every tenth with two, 2 % of the images broken in ten ways, 5 % of
the rows repeated. The plain loop calls `Recognizer.recognize` on the same files with the same cores, and neither decides nor
writes; both rates leave out the start.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from disturbed import dump
from manifests import Night, write_night
from postgres import Postgres

# Images a call of the plain loop, as many as a slice of the bulk run.
CHUNK = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--listings", type=int, default=20_000)
    options = parser.parse_args()
    photos = sorted(options.photos.resolve().rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder, Postgres(durable=True) as server:
        place = Path(folder)
        few, many = (write_night(place / str(count), photos, count) for count in (options.listings // 10, options.listings))
        print(f"plain loop: {plain_rate(photos, options.bundle):.0f} images/s", flush=True)
        tagged(few, f"sqlite:///{place}/few.db", options.bundle)
        sqlite, postgres = f"sqlite:///{place}/tags.db", server.create_database("tags")
        tagged(many, sqlite, options.bundle)
        tagged(many, sqlite, options.bundle, "again")
        tagged(many, postgres, options.bundle)
        print(f"rows equal in both databases: {dump(sqlite) == dump(postgres)}")


def plain_rate(photos: list[Path], bundle: Path) -> float:
    """Images/s of a loop that reads and recognizes, after its first chunk."""
    from prodrec.scoring import Recognizer

    recognizer, chosen = Recognizer.load(classifier=str(bundle)), iter(photos)
    images, start = 0, 0.0
    while chunk := [path.read_bytes() for path in islice(chosen, CHUNK)]:
        recognizer.recognize(chunk)
        if start:
            images += len(chunk)
        start = start or time.perf_counter()
    return images / (time.perf_counter() - start)


def tagged(night: Night, url: str, bundle: Path, run_id: str = "r") -> None:
    """Runs the command and prints what it said, its last rate and the most memory that its driver took."""
    command = [sys.executable, "-m", "prodrec.cli", "tag", str(night.manifest), "--to", url, "--classifier", str(bundle), "--run-id", run_id, "--json"]
    start, most = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    driver, lines = psutil.Process(process.pid), []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            most = max(most, driver.memory_info().rss)
    assert process.wait() == 0
    run = json.loads(next(line for line in lines if line.startswith("{")))
    rates = [float(found[1].replace(",", "")) for line in lines if (found := re.search(r"([\d,]+) images/s", line))]
    counts = {name: run[f"rows_{name}"] for name in ("in", "tagged", "skipped", "rejected")}
    exact = counts["in"] == night.rows == counts["tagged"] + counts["skipped"] + counts["rejected"]
    seconds = time.perf_counter() - start
    decided = f"{run['accepted']:,} accepted, {run['reviewed']:,} to review, {run['refused']:,} rejected"
    print(f"{night.listings:,} listings to {url.partition(':')[0]}: {counts}, exact: {exact}; {decided}")
    print(
        f"  broken as written: {sum(night.codes.values())}; {seconds:.0f} s, {rates[-1]:.0f} images/s after the start; driver {most / 2**20:.0f} MB", flush=True
    )


if __name__ == "__main__":
    main()
