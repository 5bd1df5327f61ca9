"""Decoding in a process of its own, which ends itself when it has computed for too long.

A thread cannot be ended, and what a decoder does to its process (a crash, gigabytes) it does to all that live there. A process
is started at the first need (0.3 s, 40 MB: it imports no torch), kept, and used by one thread at a time; it ends with the one
that started it. The limit is of its own time on a core, so that a busy machine makes no image too slow. POSIX only.
"""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from PIL import Image

from prodrec.errors import Reject, RejectCode
from prodrec.images.reading import Picture, read

_LENGTHS = struct.Struct(">II")
# sys.path as it is here: a cluster's workers may have been given one that no environment variable tells.
_CODE = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from prodrec.images.apart import work; work()"
# Others who compute on this machine go first. Source: assumed.
_NICE = 5
# Of memory: a size that a file hides from its header must not fill the machine. Source: measured: 100 megapixels shrunk to 320 px take
# 0.44 GB as TIFF, 0.91 GB as AVIF; the rest is room.
_MOST_BYTES = 4 << 30
# Of the clock: for what hangs without computing. Source: assumed; thirty times the limit of computing, as a machine may be that busy.
_HANGS_S = 600.0
# For a process that has closed its end to be gone. Source: assumed; Python takes a hundredth.
_LAST_S = 5.0

_ENDS = {signal.SIGPROF, signal.SIGALRM}

_idle: deque[subprocess.Popen[bytes]] = deque()
os.register_at_fork(after_in_child=_idle.clear)


def read_apart(data: bytes, format_name: str, short_side: int, max_pixels: int, keep_alpha: bool, limit_s: float) -> Picture:
    """As `reading.read`, in another process.

    Raises:
        Reject: as there; `too_slow`: it computed for longer than the limit and was ended; `crashed`: its process died over it.
    """
    ask = {"format_name": format_name, "short_side": short_side, "max_pixels": max_pixels, "keep_alpha": keep_alpha, "limit_s": limit_s}
    process = _next()
    assert process.stdin and process.stdout
    try:
        _send(process.stdin, ask, data)
        said, pixels = _receive(process.stdout)
    except (EOFError, BrokenPipeError) as error:
        raise _reject_of(_status(process), limit_s) from error
    except BaseException:
        process.kill()
        process.wait()
        raise
    _idle.append(process)
    if "code" in said:
        raise Reject(RejectCode(said["code"]), said["detail"])
    return Picture(Image.frombytes(said["mode"], tuple(said["image_size"]), pixels), tuple(said["size"]), said["orientation"])


def work() -> None:
    """What the process does until its input ends."""
    _limit_itself()
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a C library prints is no answer
    while True:
        try:
            ask, data = _receive(source)
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, ask.pop("limit_s"))  # SIGPROF ends a process, whatever its decoder is at
        signal.setitimer(signal.ITIMER_REAL, _HANGS_S)
        try:
            picture = read(data, **ask)
            pixels = picture.image.tobytes()
            said = {"mode": picture.image.mode, "image_size": picture.image.size, "size": picture.size, "orientation": picture.orientation}
        except Reject as reject:
            said, pixels = {"code": reject.code.value, "detail": reject.detail}, b""
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(sink, said, pixels)


def _limit_itself() -> None:
    os.nice(_NICE)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)  # the thread that started this process may have blocked them
    for ending in _ENDS:
        signal.signal(ending, signal.SIG_DFL)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MOST_BYTES), hard))
    with suppress(OSError):  # where memory ends, Linux ends this process before the one that it works for
        Path("/proc/self/oom_score_adj").write_text("1000")


def _next() -> subprocess.Popen[bytes]:
    """An idle one that still lives, or a new one."""
    try:
        while (process := _idle.pop()).poll() is not None:
            pass
        return process
    except IndexError:
        return _start()


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _CODE, json.dumps(sys.path)]
    # A group of its own: Ctrl-C is its parent's matter.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0)


def _status(process: subprocess.Popen[bytes]) -> int:
    """Of one that says nothing more: it is dead, about to be, or beyond help."""
    try:
        return process.wait(_LAST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _reject_of(status: int, limit_s: float) -> Reject:
    if -status in _ENDS:
        return Reject(RejectCode.TOO_SLOW, f"not decoded within {limit_s:g} s")
    return Reject(RejectCode.CRASHED, f"its decoder died ({signal.Signals(-status).name if status < 0 else f'exit {status}'})")


def _send(sink: IO[bytes], said: dict[str, Any], body: bytes) -> None:
    head = json.dumps(said).encode()
    sink.write(_LENGTHS.pack(len(head), len(body)) + head)
    sink.write(body)
    sink.flush()


def _receive(source: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Raises: EOFError: nothing more, or not all, comes."""
    lengths = source.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        raise EOFError
    head, body = _LENGTHS.unpack(lengths)
    told, rest = source.read(head), source.read(body)
    if len(told) < head or len(rest) < body:
        raise EOFError
    return json.loads(told), rest
