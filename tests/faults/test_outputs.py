"""Places that cannot be written: one clear line, exit code 2, nothing that looks complete."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made import write_image_folder

RUN = [sys.executable, "-m", "prodrec.cli"]


def prodrec(*arguments, limit_bytes=None):
    """Runs the command line in a process of its own; `limit_bytes`: no file may grow larger, as on a full disk."""
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [*RUN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, preexec_fn=limit if limit_bytes else None)


def assert_one_clear_line(done, *words):
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("prodrec: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["prepare", "{tmp}/nothing", "{tmp}/out"], ["nothing does not exist"]),
        (["prepare", "{tmp}/empty", "{tmp}/out"], ["is empty"]),
        (["prepare", "{tmp}/wrong.csv", "{tmp}/out"], ["label", "found"]),
        (["prepare", "{tmp}/source", "/proc/out"], ["cannot write /proc/out"]),
        (["prepare", "{tmp}/source", "{tmp}/out", "--split", "0.9,0.9"], ["sum to 1"]),
        (["train", "{tmp}/source", "--recipe", "demo", "--out", "{tmp}/run"], ["no complete shards", "prodrec prepare"]),
        (["evaluate", "{tmp}/source", "{tmp}/source", "--out", "{tmp}/e"], ["no complete bundle"]),
        (["sample", "{tmp}/source"], ["source"]),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, command, words):
    write_image_folder(tmp_path / "source", {"a": 2})
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.csv").write_text("picture,price\nx.jpg,1\n")
    assert_one_clear_line(prodrec(*(part.format(tmp=tmp_path) for part in command)), *words)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_training_into_a_place_that_cannot_be_written(small_shards):
    assert_one_clear_line(prodrec("train", small_shards, "--recipe", "demo", "--out", "/proc/run", "--local"), "cannot write /proc/run")


def test_a_full_disk_while_checkpointing_leaves_no_checkpoint_and_no_bundle(small_shards, tmp_path):
    options = ["--recipe", "demo", "--local", "--set", "train.epochs=2", "--set", "input.size=32"]
    done = prodrec("train", small_shards, "--out", tmp_path / "run", *options, limit_bytes=40_000)
    assert_one_clear_line(done, "cannot write", "free space")
    assert not (tmp_path / "run" / "bundle").exists()
    assert not list((tmp_path / "run").glob("checkpoints/*/state.json"))


def test_a_read_only_folder(small_shards, tmp_path):
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        place = tmp_path / "locked" / "run"
    else:  # root may write anywhere but where no one can
        place = Path("/sys/run")
    assert_one_clear_line(prodrec("train", small_shards, "--recipe", "demo", "--out", place, "--local"), "cannot write", str(place))
