import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from prodrec.errors import OutputError
from prodrec.files import Folder
from prodrec.lease import Claim, held

HOLD = """
import sys, time
from prodrec.files import Folder
from prodrec.lease import held
with held(Folder(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["disk", "store"])
def folder(request, tmp_path):
    """On a disk, and in memory as an object store: without folders, and of another kind than the local file system."""
    return Folder(tmp_path if request.param == "disk" else f"fsspec+memory://{uuid.uuid4().hex}/run")


def claims(folder):
    return [info.base_name for info in folder.names(".lease")]


def test_one_holds_a_folder_and_leaves_it_free(folder):
    with held(folder, pytest.fail) as claim:
        assert claim.stands()
        with pytest.raises(OutputError, match=f"another process is at work in .*process {os.getpid()} on "), held(folder, pytest.fail):
            raise AssertionError("two at once")
        assert claim.stands()
        assert len(claims(folder)) == 1
    assert not claims(folder)
    with held(folder, pytest.fail):
        pass


def test_a_folder_is_free_at_once_when_its_holder_was_killed_here(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(OutputError, match=f"process {holder.pid} on"), held(Folder(tmp_path), pytest.fail):
        raise AssertionError("two at once")
    holder.send_signal(signal.SIGKILL)
    started = time.monotonic()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # ended, and nobody has asked for its exit code yet
    with held(Folder(tmp_path), pytest.fail):
        assert time.monotonic() - started < 10
    holder.wait()


def test_a_claim_of_another_machine_runs_out_by_the_clock_of_the_store(tmp_path):
    folder = Folder(tmp_path)
    Folder(folder / ".lease").make()
    other = replace(Claim(folder.uri), machine="another", host="gone.example")
    other.write()
    os.utime(tmp_path / other.file, (time.time() - 119, time.time() - 119))
    told = []
    started = time.time()
    with held(folder, told.append, renew_s=1.0) as claim:
        assert time.time() >= started + 1
        assert claims(folder) == [Path(claim.file).name]
    assert ["gone.example" in line for line in told] == [True]


def test_a_store_without_a_clock_is_watched():
    folder = Folder(f"fsspec+memory://{uuid.uuid4().hex}/run")
    replace(Claim(folder.uri, renew_s=0.1), machine="another").write()
    with held(folder, lambda _: None, renew_s=0.1) as claim:
        assert claims(folder) == [Path(claim.file).name]


def test_a_claim_of_another_machine_that_is_renewed_stands(folder):
    Folder(folder / ".lease").make()
    other, done = replace(Claim(folder.uri, renew_s=0.2), machine="another", host="alive.example"), threading.Event()
    other.write()

    def renew():
        for times in range(1, 1000):
            if done.wait(0.2):
                return
            other.write(times)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(OutputError, match=r"on alive\.example"), held(folder, lambda _: None, renew_s=0.5):
            raise AssertionError("two at once")
    finally:
        done.set()
        thread.join()


def test_of_many_that_come_at_once_one_at_most_goes_on(folder, monkeypatch):
    """As on six machines: none can see that the others are alive but by their claims."""
    monkeypatch.setattr("prodrec.lease._machine", lambda: uuid.uuid4().hex)
    inside, most, together, lock = 0, 0, threading.Barrier(6), threading.Lock()

    def come():
        nonlocal inside, most
        together.wait()
        try:
            with held(folder, lambda _: None, renew_s=0.3):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.05)
                with lock:
                    inside -= 1
        except OutputError:
            pass

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not claims(folder)


def test_a_claim_is_renewed_and_one_that_was_taken_away_is_not(folder):
    with held(folder, pytest.fail, renew_s=0.05) as claim:
        first, until = folder.read(claim.file), time.monotonic() + 20
        while folder.read(claim.file) == first:
            assert time.monotonic() < until
            time.sleep(0.02)
        folder.delete(claim.file)
        time.sleep(0.3)
        assert not claim.stands()


def test_what_is_no_claim_is_passed_over(tmp_path):
    (tmp_path / ".lease").mkdir()
    (tmp_path / ".lease" / "x.json").write_text("{")
    (tmp_path / ".lease" / "y.json").write_text(json.dumps({"pid": 1}))
    with held(Folder(tmp_path), pytest.fail):
        pass
