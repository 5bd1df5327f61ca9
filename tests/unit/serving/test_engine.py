"""Online work that nobody waits for any more is not done."""

import asyncio
import threading
from contextlib import suppress

from made import photo

from prodrec.models.bundle import load_bundle
from prodrec.scoring.explain import OccluderConfig
from prodrec.scoring.inputs import Inputs, InputThreads
from prodrec.scoring.recognition import Recognition
from prodrec.serving.backend import Ask
from prodrec.serving.engine import Engine
from prodrec.serving.metrics import LocalMeter
from prodrec.serving.settings import EngineOptions


def test_images_of_callers_who_have_gone_are_not_prepared():
    began, go_on, made = threading.Event(), threading.Event(), []

    def make(data: bytes) -> Inputs:
        made.append(data)
        began.set()
        assert go_on.wait(30)
        return Inputs(Recognition())

    async def ask() -> None:
        threads = InputThreads(make, 1, 20.0)
        first = asyncio.create_task(threads.prepared(b"first"))
        await asyncio.to_thread(began.wait, 30)
        others = [asyncio.create_task(threads.prepared(b"other")) for _ in range(5)]
        last = asyncio.create_task(threads.prepared(b"last"))
        await asyncio.sleep(0)
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        go_on.set()
        await asyncio.gather(first, last)

    asyncio.run(ask())
    assert made == [b"first", b"last"]


def test_a_heat_map_that_nobody_waits_for_is_given_up(calibrated_bundle, monkeypatch):
    """Each place of the occluder, one forward pass after the other, would else go on to the end."""
    batches = []
    score = "prodrec.scoring.explain._probabilities"
    from prodrec.scoring import explain

    def counted(scorer, images):
        batches.append(len(images))
        return real(scorer, images)

    real = explain._probabilities
    monkeypatch.setattr(score, counted)
    engine = Engine(load_bundle(calibrated_bundle), None, LocalMeter(), options=EngineOptions(threads=1))
    ask = Ask(method="occlusion", occluder=OccluderConfig(size=1, stride=1))

    async def leave() -> None:
        task = asyncio.create_task(engine.explain(photo(0, 1), ask))
        while len(batches) < 4:
            await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await engine.explain(photo(0, 1), Ask())

    asyncio.run(leave())
    assert len(batches) < 2 + 32 * 32 / 32, "all of its places were scored"
