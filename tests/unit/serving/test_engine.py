"""Online work that nobody waits for any more is not done."""

import asyncio
import io
import threading
import time
from contextlib import suppress

import pytest
import torch
from made import photo
from PIL import Image

from prodrec.errors import Reject, RejectCode
from prodrec.models.bundle import load_bundle
from prodrec.scoring import occlusion
from prodrec.scoring.inputs import Crowded, Inputs, InputThreads
from prodrec.scoring.occlusion import OccluderConfig
from prodrec.scoring.recognition import Recognition
from prodrec.serving.backend import Ask, Scored, Served, each
from prodrec.serving.engine import Engine
from prodrec.serving.metrics import LocalMeter
from prodrec.serving.settings import EngineOptions
from prodrec.serving.unavailable import Busy


def test_images_of_callers_who_have_gone_are_not_prepared():
    began, go_on, made = threading.Event(), threading.Event(), []

    def make(data: bytes) -> Inputs:
        made.append(data)
        began.set()
        assert go_on.wait(30)
        return Inputs(Recognition())

    async def ask() -> None:
        threads = InputThreads(make, 1)
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


def test_images_that_take_long_do_not_fill_the_server():
    """One that is too many is told so at once; when they are done, and when nobody waits for them, there are places again."""
    go_on, tiff = threading.Event(), io.BytesIO()
    Image.new("RGB", (8, 8)).save(tiff, "TIFF")

    def make(data: bytes) -> Inputs:
        assert data == b"short" or go_on.wait(30)
        return Inputs(Recognition())

    async def ask() -> None:
        threads = InputThreads(make, 1, most_long=2)
        long = [asyncio.create_task(threads.prepared(tiff.getvalue())) for _ in range(2)]
        await asyncio.sleep(0)
        await threads.prepared(b"short")
        with pytest.raises(Crowded):
            await threads.prepared(tiff.getvalue())
        long[1].cancel()
        await asyncio.gather(long[1], return_exceptions=True)
        third = asyncio.create_task(threads.prepared(tiff.getvalue()))
        await asyncio.sleep(0)
        await threads.prepared(b"short")
        assert not third.done()
        go_on.set()
        await asyncio.gather(long[0], third)

    asyncio.run(ask())


def test_a_heat_map_that_nobody_waits_for_is_given_up(calibrated_bundle, monkeypatch):
    """Each place of the occluder, one forward pass after the other, would else go on to the end."""
    batches = []
    score = "prodrec.scoring.occlusion.probabilities"

    def counted(scorer, images):
        batches.append(len(images))
        return real(scorer, images)

    real = occlusion.probabilities
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


def test_scoring_has_the_threads_of_the_process_and_not_of_those_that_prepare(calibrated_bundle, monkeypatch):
    seen = []
    real = torch.nn.Module.__call__
    before = torch.get_num_threads()
    try:
        engine = Engine(load_bundle(calibrated_bundle), None, LocalMeter(), options=EngineOptions(threads=4))

        def noted(self, *arguments, **named):
            seen.append(torch.get_num_threads())
            return real(self, *arguments, **named)

        monkeypatch.setattr(torch.nn.Module, "__call__", noted)
        answer = asyncio.run(engine.recognize(photo(0, 1)))
    finally:
        torch.set_num_threads(before)
    assert answer.recognition.products and set(seen) == {2}


def test_waiting_is_what_came_before_the_images_own_batch(calibrated_bundle):
    async def ask() -> list[dict[str, float]]:
        engine = Engine(load_bundle(calibrated_bundle), None, LocalMeter(), options=EngineOptions(threads=2))
        start = time.perf_counter()
        found = await asyncio.gather(*(engine.recognize(photo(0, number)) for number in range(16)))
        took_ms = 1e3 * (time.perf_counter() - start)
        return [one.recognition.timings_ms | {"took": took_ms} for one in found]

    for timings in asyncio.run(ask()):
        assert 0 <= timings["wait"] < timings["took"]
        assert timings["classify"] > 0


def test_a_bad_image_is_told_by_its_code(calibrated_bundle):
    engine = Engine(load_bundle(calibrated_bundle), None, LocalMeter())
    assert asyncio.run(engine.recognize(b"none")).recognition.code == RejectCode.NOT_AN_IMAGE.value


def test_an_image_of_too_many_pixels_is_refused_by_its_header(calibrated_bundle):
    engine = Engine(load_bundle(calibrated_bundle), None, LocalMeter(), options=EngineOptions(threads=1, max_pixels=320 * 320))
    large = png(321, 320)

    async def ask() -> str | None:
        with pytest.raises(Reject, match="too_many_pixels"):
            await engine.explain(large, Ask())
        return (await engine.recognize(large)).recognition.code

    assert asyncio.run(ask()) == "too_many_pixels"


def test_a_request_that_cannot_be_answered_is_not_worked_on():
    begun, ended = [], []

    async def score(data: bytes) -> Scored:
        begun.append(data)
        await asyncio.sleep(0)
        if data == b"0":
            raise Busy
        await asyncio.sleep(0)
        ended.append(data)
        return Scored(Recognition(), Served(None, None))

    async def ask() -> None:
        with pytest.raises(Busy):
            await each(score, [b"%d" % number for number in range(64)])
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run(ask())
    assert len(begun) < 64
    assert len(ended) < len(begun)


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 30)).save(out, "PNG")
    return out.getvalue()
