"""Load on a server: clients that ask again as soon as they are answered."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import httpx


class Asked(NamedTuple):
    """One request: when it began (perf_counter), how long it took, its status (0: the connection broke) and its answer."""

    begun: float
    took_s: float
    status: int
    answer: dict


async def load(url: str, body: bytes, clients: int, until: Callable[[], bool], asked: list[Asked] | None = None) -> list[Asked]:
    """Runs clients until `until` is true; a client that is told to come later asks again at once. `asked` grows meanwhile."""
    asked = [] if asked is None else asked
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:

        async def ask() -> None:
            while not until():
                begun = time.perf_counter()
                try:
                    response = await client.post(f"{url}/v1/recognize", content=body, headers={"Content-Type": "image/jpeg"})
                    status, answer = response.status_code, response.json()
                except httpx.TransportError:
                    status, answer = 0, {}
                asked.append(Asked(begun, time.perf_counter() - begun, status, answer))

        await asyncio.gather(*(ask() for _ in range(clients)))
    return asked


def quantile_s(asked: list[Asked], share: float) -> float:
    """Of the answered requests' times."""
    times = sorted(one.took_s for one in asked if one.status == 200)
    return times[min(len(times) - 1, int(share * len(times)))]
