"""What other callers wait while images come that are built to cost: p50 and p99 with and without them, in one run.

Usage: benchmarks/bombs.py BUNDLE PHOTO [--clients 4] [--seconds 10] [--bombs 64]

A server of this machine (`prodrec serve --local`) is asked by so many clients for PHOTO; then, while they go on, so many bombs
are sent at once, and again until the time is over: progressive JPEGs of 7,000 x 7,000 px with 4,000 scans, which are refused; and
ones with 40 scans, which are just allowed and take a second of a core each.
"""

import argparse
import asyncio
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from load import Asked, load, quantile_s  # noqa: E402
from made import progressive_bomb  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--bombs", type=int, default=64)
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "prodrec", "serve", "--local", "--classifier", options.bundle.resolve(), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url)
        asyncio.run(_rounds(url, options))
    finally:
        server.terminate()
        server.wait()


def _wait(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=2)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("the server does not get ready")


async def _rounds(url: str, options: argparse.Namespace) -> None:
    photo = options.photo.read_bytes()
    await _asked(url, photo, options, None)  # warm
    kinds = {"none": None, "refused": progressive_bomb(7000, 7000, 4000), "allowed, a second each": progressive_bomb(7000, 7000, 37)}
    for _ in range(2):
        calm = 0.0
        for name, bomb in kinds.items():
            asked, answers = await _asked(url, photo, options, bomb)
            bad = dict(Counter(one.status for one in asked if one.status != 200))
            if len(asked) == sum(bad.values()):
                sys.exit(f"bombs {name}: no photo was answered: {bad}")
            p50, p99 = (1e3 * quantile_s(asked, share) for share in (0.5, 0.99))
            calm = calm or p99
            told = f"p50 {p50:6.1f} ms, p99 {p99:6.1f} ms ({p99 / calm:.2f}); bombs' own: {dict(answers)}"
            print(f"bombs {name:24} {len(asked):5} answers, not 200: {bad or 0}, {told}")


async def _asked(url: str, photo: bytes, options: argparse.Namespace, bomb: bytes | None) -> tuple[list[Asked], Counter[str]]:
    """Of the others, and what the bombs were told."""
    end, told = time.perf_counter() + options.seconds, Counter[str]()
    over = lambda: time.perf_counter() > end  # noqa: E731

    async def throw(client: httpx.AsyncClient) -> None:
        begun = time.perf_counter()
        answer = await client.post(f"{url}/v1/recognize", content=bomb)
        told[answer.json().get("code", "answered")] += 1
        told["slowest_ms"] = max(told["slowest_ms"], round(1e3 * (time.perf_counter() - begun)))

    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=options.bombs), trust_env=False) as client:
        asking = asyncio.create_task(load(url, photo, options.clients, over))
        if bomb:
            await asyncio.gather(*(throw(client) for _ in range(options.bombs)))
        return await asking, told


if __name__ == "__main__":
    main()
