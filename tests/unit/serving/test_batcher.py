import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.serving.batcher import Batcher

PATIENCE_S = 20


class Work:
    """A function for a batcher that keeps what it was given, and can be held up; an item below 0 is an error of its batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.going = threading.Event()
        self.begun = threading.Event()
        self.going.set()

    def __call__(self, items) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.going.wait(PATIENCE_S)
        if min(items) < 0:
            raise ValueError(min(items))
        return [10 * item for item in items]


def run(main):
    async def within() -> object:
        async with asyncio.timeout(PATIENCE_S):
            return await main

    return asyncio.run(within())


async def held_up(work: Work, batcher: Batcher, item: int = 0) -> asyncio.Task[int]:
    """A batch of one that has begun and does not end."""
    work.going.clear()
    first = asyncio.create_task(batcher(item))
    await asyncio.to_thread(work.begun.wait, PATIENCE_S)
    return first


async def results(batcher: Batcher, items) -> list[int | BaseException]:
    return await asyncio.gather(*(batcher(item) for item in items), return_exceptions=True)


@given(items=st.lists(st.integers(0, 10**6), min_size=1, max_size=60), most=st.integers(1, 20))
def test_each_item_gets_its_own_result_in_batches_that_keep_the_order(items, most):
    async def main() -> None:
        work = Work()
        batcher = Batcher(work, most)
        first = await held_up(work, batcher, -0)
        waiting = asyncio.create_task(results(batcher, items))
        await asyncio.sleep(0)
        work.going.set()
        assert await waiting == [10 * item for item in items]
        assert await first == 0
        gathered = work.batches[1:]
        assert [item for batch in gathered for item in batch] == items
        assert [len(batch) for batch in gathered] == [most] * (len(items) // most) + [len(items) % most] * (len(items) % most > 0)

    run(main())


@given(items=st.lists(st.integers(-3, 9), min_size=1, max_size=40), most=st.integers(1, 8))
def test_an_error_reaches_its_batch_and_no_other(items, most):
    async def main() -> None:
        work = Work()
        batcher = Batcher(work, most)
        first = await held_up(work, batcher)
        waiting = asyncio.create_task(results(batcher, items))
        await asyncio.sleep(0)
        work.going.set()
        found = await waiting
        for start in range(0, len(items), most):
            batch, theirs = items[start : start + most], found[start : start + most]
            if min(batch) < 0:
                assert all(isinstance(error, ValueError) and error.args == (min(batch),) for error in theirs)
            else:
                assert theirs == [10 * item for item in batch]
        assert await first == 0
        assert await batcher(7) == 70

    run(main())


@given(gone=st.sets(st.integers(0, 19)), most=st.integers(1, 8))
def test_what_nobody_waits_for_is_left_out(gone, most):
    async def main() -> None:
        work = Work()
        batcher = Batcher(work, most)
        first = await held_up(work, batcher)
        tasks = [asyncio.create_task(batcher(item)) for item in range(20)]
        await asyncio.sleep(0)
        for number in gone:
            tasks[number].cancel()
        await asyncio.sleep(0)
        work.going.set()
        kept = [number for number in range(20) if number not in gone]
        assert await asyncio.gather(*(tasks[number] for number in kept)) == [10 * number for number in kept]
        await first
        assert [item for batch in work.batches[1:] for item in batch] == kept
        assert all(len(batch) <= most for batch in work.batches)

    run(main())


def test_one_that_gives_up_while_it_is_scored_disturbs_no_other():
    async def main() -> None:
        loop, work, tasks = asyncio.get_running_loop(), Work(), []

        def scored(items) -> list[int]:
            if len(items) == 3:
                loop.call_soon_threadsafe(tasks[1].cancel)
            return work(items)

        batcher = Batcher(scored, 4)
        first = await held_up(work, batcher)
        tasks += [asyncio.create_task(batcher(item)) for item in (1, 2, 3)]
        await asyncio.sleep(0)
        work.going.set()
        await first
        await asyncio.wait(tasks)
        assert tasks[1].cancelled()
        assert (tasks[0].result(), tasks[2].result()) == (10, 30)

    run(main())


@given(pauses=st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_none_is_forgotten_however_they_come(pauses):
    """Also where one comes just as the runner finds nothing waiting."""

    async def main() -> None:
        batcher = Batcher(Work(), 3)
        tasks = []
        for number, pause in enumerate(pauses):
            tasks.append(asyncio.create_task(batcher(number)))
            for _ in range(pause):
                await asyncio.sleep(0)
            if pause == 3:
                await tasks[-1]
        assert await asyncio.gather(*tasks) == [10 * number for number in range(len(pauses))]

    run(main())


def test_how_long_a_batch_takes_is_told_while_it_does():
    async def main() -> None:
        work = Work()
        batcher = Batcher(work, 4)
        assert batcher.busy_s() == 0
        first = await held_up(work, batcher)
        earlier = batcher.busy_s()
        await asyncio.sleep(0.02)
        assert batcher.busy_s() >= earlier + 0.02
        work.going.set()
        await first
        await asyncio.sleep(0)
        assert batcher.busy_s() == 0

    run(main())


def test_a_lone_item_does_not_wait():
    work = Work()

    async def main() -> None:
        batcher = Batcher(work, 64)
        for number in range(5):
            assert await batcher(number) == 10 * number

    run(main())
    assert work.batches == [[number] for number in range(5)]


@pytest.mark.parametrize("answers", [[1], [1, 2, 3]])
def test_results_that_do_not_fit_are_an_error(answers):
    async def main() -> None:
        work = Work()
        batcher = Batcher(lambda items: work(items) if items == [0] else answers, 2)
        first = await held_up(work, batcher)
        waiting = asyncio.create_task(results(batcher, [1, 2]))
        await asyncio.sleep(0)
        work.going.set()
        await first
        assert all(isinstance(answer, ValueError) for answer in await waiting)

    run(main())
