"""Working ahead of a consumer."""

import threading
import weakref
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Ahead(Iterator[T]):
    """What an iterator yields, made by a thread of its own from now on, in the iterator's order.

    What the iterator raises is raised here, in its place. The thread ends with the iterator, and soon after this is closed or
    let go of.

    Args:
        most: items that wait for the consumer, beside the one that the thread has in hand.
    """

    def __init__(self, items: Iterator[T], most: int) -> None:
        self._made: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._room = threading.Semaphore(most)
        closed = threading.Event()
        self._finalizer = weakref.finalize(self, _stop, closed, self._room)
        # The thread knows parts, not the whole, which could otherwise never be let go of.
        threading.Thread(target=_make, args=(items, self._made, self._room, closed), name="ahead", daemon=True).start()

    def __next__(self) -> T:
        item, error = self._made.get()
        if error is not None:
            self._made.put((None, error))  # an end stays an end
            raise error
        self._room.release()
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """Ends the thread where it is; nothing more may be asked for."""
        self._finalizer()


def _make(items: Iterator[T], made: "SimpleQueue[tuple[T | None, BaseException | None]]", room: threading.Semaphore, closed: threading.Event) -> None:
    end: BaseException = StopIteration()
    try:
        for item in items:
            room.acquire()
            if closed.is_set():
                return
            made.put((item, None))
    except BaseException as error:  # the consumer's to judge, whatever it is
        end = error
    made.put((None, end))


def _stop(closed: threading.Event, room: threading.Semaphore) -> None:
    closed.set()
    room.release()
