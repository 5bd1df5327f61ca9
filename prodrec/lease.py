"""One process at a time in a folder, on local disks and object stores alike.

A claim is a file FOLDER/.lease/TOKEN.json that its holder writes anew every `RENEW_S`. Whoever writes one and then sees no other
that is alive holds the folder; who sees another takes its own away again. Two that come at the same moment may both back off,
and try again: they never both go on. Source: Lamport's bakery (1974) without its tickets; it needs a store whose listings show
what was written before, as S3 (since 2020), GCS, Azure and local disks do, and no conditional writes, which pyarrow has not.

A claim is dead at once if its holder was a process of this machine that is gone; else when it was not renewed six times in a row, by
the store's own clock or, where it tells none, before the eyes of who waits: no two machines' clocks are compared. A holder that was
thought dead finds its claim gone, and must write no more: `Claim.stands`.
"""

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from prodrec.errors import OutputError, ProdrecError
from prodrec.files import Folder

# A store may be away for a minute or two without a run losing its folder, and a lost driver's folder is free soon. Source: assumed.
RENEW_S, _MISSED = 20.0, 6
_FOLDER = ".lease"


def _machine() -> str:
    """The same for all processes that see each other's numbers: of one start of one machine, in one container."""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> str | None:
    """When a process started, in ticks, since numbers of processes are given again; None: it has ended. Source: proc_pid_stat(5)."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if facts[0] in "ZX" else facts[19]


@dataclass(frozen=True)
class Claim:
    """Who is at work in a folder."""

    uri: str
    renew_s: float = RENEW_S
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    host: str = field(default_factory=socket.gethostname)
    machine: str = field(default_factory=_machine)
    pid: int = field(default_factory=os.getpid)
    started: str | None = field(default_factory=lambda: _started(os.getpid()))
    since: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))

    @property
    def expires_s(self) -> float:
        return self.renew_s * _MISSED

    @property
    def file(self) -> str:
        return f"{_FOLDER}/{self.token}.json"

    def stands(self) -> bool:
        """Whether nobody has taken over."""
        return Folder(self.uri).exists(self.file)

    def write(self, times: int = 0) -> None:
        """Args: times: how often it was renewed; each time its file is another."""
        Folder(self.uri).write(self.file, json.dumps(asdict(self) | {"renewed": times}).encode())

    def is_of_this_machine(self) -> bool:
        return self.machine == _machine()

    def is_gone(self) -> bool:
        """Whether its process was of this machine and has ended."""
        return self.is_of_this_machine() and _started(self.pid) != self.started


@contextmanager
def held(folder: Folder, note: Callable[[str], None], renew_s: float = RENEW_S) -> Iterator[Claim]:
    """Holds a folder for the time of the block.

    Args:
        note: told of a wait for a claim of another machine that may be dead.
        renew_s: how often the claim is written anew.

    Raises:
        OutputError: the folder cannot be written, or another process is at work in it.
    """
    Folder(folder / _FOLDER).make()
    claim, ended = _claimed(folder, note, renew_s), threading.Event()

    def renew() -> None:
        last, times = time.monotonic(), 0
        while not ended.wait(renew_s):
            with suppress(ProdrecError, OSError, pa.ArrowException):  # the store is away: tried again
                if time.monotonic() - last > claim.expires_s or not claim.stands():
                    return  # another may have it by now; `stands` says so
                times += 1
                claim.write(times)
                last = time.monotonic()

    thread = threading.Thread(target=renew, daemon=True, name="lease")
    thread.start()
    try:
        yield claim
    finally:
        ended.set()
        thread.join()
        with suppress(ProdrecError, OSError, pa.ArrowException):
            folder.delete(claim.file)


def _claimed(folder: Folder, note: Callable[[str], None], renew_s: float) -> Claim:
    claim, watched = Claim(folder.uri, renew_s), _Watched(folder)
    while True:
        claim.write()
        others = watched.alive(claim)
        if not others:
            return claim
        folder.delete(claim.file)
        for other, is_renewed in others.items():
            who = f"process {other.pid} on {other.host}, since {other.since}"
            if is_renewed or other.is_of_this_machine():
                raise OutputError(f"another process is at work in {folder.uri} ({who}); wait until it ends, or choose another --out")
            if watched.is_new(other):
                note(f"{who}, was at work in {folder.uri}; waiting up to {other.expires_s:.0f} s to see whether it still is")
        time.sleep(renew_s * random.uniform(1.2, 1.5))


class _Watched:
    """Claims of others, and what was seen of them."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self.seen, self.told = folder, dict[str, tuple[bytes, float]](), set[str]()

    def alive(self, own: Claim) -> dict[Claim, bool]:
        """Those that are not known to be dead, and whether they were renewed since they were seen first; dead ones are taken away."""
        files = {info.base_name: info for info in self.folder.names(_FOLDER) if info.base_name.endswith(".json")}
        now_ns, alive = files[Path(own.file).name].mtime_ns, {}
        for name, info in files.items():
            try:
                data = self.folder.read(f"{_FOLDER}/{name}")
                facts = json.loads(data)
                facts.pop("renewed", None)
                other = Claim(**facts)
            except (OSError, ValueError, TypeError, AttributeError):  # ended just now, or not a claim
                continue
            if other.token == own.token:
                continue
            before, since = self.seen.setdefault(other.token, (data, time.monotonic()))
            age_s = time.monotonic() - since if now_ns is None or info.mtime_ns is None else (now_ns - info.mtime_ns) / 1e9
            if other.is_gone() or (before == data and age_s > other.expires_s):
                self.folder.delete(other.file)
            else:
                alive[other] = before != data
        return alive

    def is_new(self, other: Claim) -> bool:
        """Whether nothing was told of it yet."""
        is_new = other.token not in self.told
        self.told.add(other.token)
        return is_new
