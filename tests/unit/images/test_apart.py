"""What may take long is decoded in a process that ends when it must, and no other image suffers."""

import io
import os
import resource
import select
import signal
import subprocess
import sys
import threading

import pytest
from made import photo
from PIL import Image, TiffImagePlugin

from prodrec.errors import Reject, RejectCode
from prodrec.images import apart
from prodrec.images.apart import read_apart
from prodrec.images.decode import prepare_image
from prodrec.images.formats import ImageLimits
from prodrec.images.pictures import is_short, read_picture
from prodrec.images.reading import read


def slow_png() -> bytes:
    """36 megapixels: to inflate and shrink them takes any machine more than a hundredth of a second."""
    out = io.BytesIO()
    Image.new("L", (6000, 6000)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def tiff() -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(photo(0, 1))).save(out, "TIFF")
    return out.getvalue()


# A decoder that sleeps, one that prints, one that takes 8 GB.
ODD = "import sys, json, time, os; sys.path[:] = json.loads(sys.argv[1]); from prodrec.images import apart; here = apart.read; apart.read = {}; apart.work()"
HANGS = ODD.format("lambda *a, **k: time.sleep(600); apart._HANGS_S = 0.1")
PRINTS = ODD.format("lambda *a, **k: (os.write(1, b'no answer'), here(*a, **k))[1]")
TAKES = ODD.format("lambda *a, **k: (bytearray(8 << 30), here(*a, **k))[1]")


@pytest.fixture
def processes(monkeypatch) -> list:
    """Those that are started in this test, none before."""
    started, start = [], apart._start
    monkeypatch.setattr(apart, "_idle", type(apart._idle)())
    monkeypatch.setattr(apart, "_start", lambda: started.append(start()) or started[-1])
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_it_reads_what_is_read_here(processes):
    for data, format_name in ((photo(0, 1), "JPEG"), (tiff(), "TIFF")):
        here, there = read(data, format_name, 32, 10_000), read_apart(data, format_name, 32, 10_000, False, 20.0)
        assert (here.size, here.orientation, here.image.tobytes()) == (there.size, there.orientation, there.image.tobytes())
    with pytest.raises(Reject, match="too_many_pixels"):
        read_apart(photo(0, 1), "JPEG", 32, 100, False, 20.0)
    with pytest.raises(Reject, match="truncated"):
        read_apart(photo(0, 1)[:300], "JPEG", 32, 10_000, False, 20.0)
    assert len(processes) == 1 and processes[0].poll() is None


def test_what_takes_too_long_is_ended_and_costs_itself_only(processes):
    data = slow_png()
    assert not is_short(data)
    with pytest.raises(Reject) as raised:
        prepare_image(data, 48, ImageLimits(max_seconds=0.01))
    assert raised.value.code is RejectCode.TOO_SLOW
    assert [process.returncode for process in processes] == [-signal.SIGPROF], "it was not ended"
    assert prepare_image(data, 48).source_width == 6000
    assert len(processes) == 2


def test_a_decoder_that_dies_is_told_and_the_next_image_has_another(processes):
    begun, send = threading.Event(), apart._send

    def killed_when_asked(sink, said, body):
        send(sink, said, body)
        os.kill(processes[-1].pid, signal.SIGKILL)
        begun.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apart, "_send", killed_when_asked)
        with pytest.raises(Reject, match="SIGKILL") as raised:
            read_picture(tiff(), 32, ImageLimits())
    assert begun.is_set() and raised.value.code is RejectCode.CRASHED
    assert read_picture(tiff(), 32, ImageLimits()).size == (48, 48)


def test_an_idle_decoder_that_died_costs_no_image(processes):
    read_picture(tiff(), 32, ImageLimits())
    processes[0].kill()
    processes[0].wait()
    assert read_picture(tiff(), 32, ImageLimits()).size == (48, 48)


def test_it_ends_with_its_parent(processes):
    process = apart._start()
    process.stdin.close()
    assert process.wait(30) == 0


def test_one_that_hangs_without_computing_is_ended_too(processes, monkeypatch):
    """In a process started by a thread that takes no such signals."""
    monkeypatch.setattr(apart, "_CODE", HANGS)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF, signal.SIGALRM})
    try:
        with pytest.raises(Reject, match="too_slow"):
            read_apart(tiff(), "TIFF", 32, 10_000, False, 20.0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert processes[0].returncode == -signal.SIGALRM


def test_what_a_decoder_prints_is_no_answer(processes, monkeypatch):
    monkeypatch.setattr(apart, "_CODE", PRINTS)
    assert read_apart(tiff(), "TIFF", 32, 10_000, False, 20.0).size == (48, 48)


def test_memory_has_an_end(processes, monkeypatch):
    monkeypatch.setattr(apart, "_CODE", TAKES)
    with pytest.raises(Reject, match="crashed"):
        read_apart(tiff(), "TIFF", 32, 10_000, False, 20.0)
    assert processes[0].returncode == 1
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY, "not of this process"


def test_it_ends_when_its_parent_is_killed():
    code = "import os, sys; from prodrec.images import apart; print(apart._start().pid, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        decoder = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    assert select.select([decoder], [], [], 60)[0], "it lives on"
    os.close(decoder)


def test_the_preview_of_a_raw_photo_is_not_taken_for_it():
    picture = Image.open(io.BytesIO(photo(0, 1)))
    for tag, value in ((254, 1), (50706, b"\1\4\0\0")):
        out, ifd = io.BytesIO(), TiffImagePlugin.ImageFileDirectory_v2()
        ifd[tag] = value
        picture.save(out, "TIFF", tiffinfo=ifd)
        with pytest.raises(Reject, match="raw photo") as raised:
            read_picture(out.getvalue(), 32, ImageLimits())
        assert raised.value.code is RejectCode.UNSUPPORTED_FORMAT
    assert read_picture(tiff(), 32, ImageLimits()).size == (48, 48)
