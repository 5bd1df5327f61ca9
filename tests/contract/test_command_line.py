"""What the command line promises before any work begins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made import run

HEAVY = ("ray", "torch", "torchvision", "timm", "pyarrow", "pandas", "numpy", "matplotlib", "pydantic")


def cpu_seconds(*command):
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_help_takes_under_half_a_second_and_loads_nothing_heavy():
    program = Path(sys.executable).parent / "prodrec"
    assert min(cpu_seconds(program, "--help") for _ in range(3)) < 0.5
    script = f"import sys, prodrec.cli; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command", ["sample", "prepare", "inspect", "train", "evaluate", "calibrate", "compare", "registry", "recognize", "explain", "tag", "serve"]
)
def test_every_command_explains_itself(command):
    done = subprocess.run([sys.executable, "-m", "prodrec.cli", command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"prodrec {command}" in done.stdout


@pytest.mark.parametrize("settings", ["policy: typo.yaml", "image_url: {hosts: [a.example], ca_file: typo.yaml}"])
def test_serve_says_what_is_wrong_with_its_settings_before_ray_starts(settings, tmp_path, capsys):
    (tmp_path / "serving.yaml").write_text(settings)
    assert run("serve", "--classifier", tmp_path, "--settings", tmp_path / "serving.yaml", "--port", 18763) == 2
    error = capsys.readouterr().err
    assert "typo.yaml" in error.splitlines()[-1]
    assert "Traceback" not in error


@pytest.mark.parametrize("arguments", [["train"], ["prepare", "a"], ["nothing"], ["train", "x", "--out", "y", "--colour", "red"]])
def test_a_command_line_that_is_wrong_ends_with_2(arguments):
    done = subprocess.run([sys.executable, "-m", "prodrec.cli", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_training_in_one_process_never_imports_ray(small_shards, tmp_path):
    script = (
        "import sys; from prodrec.cli import main\n"
        f"main(['train', {str(small_shards)!r}, '--recipe', 'demo', '--out', {str(tmp_path / 'run')!r}, '--local',"
        " '--set', 'train.epochs=1', '--set', 'input.size=32'])"
    )
    guard = "import sys; sys.modules['ray'] = None\ntry:\n exec(sys.argv[1])\nexcept SystemExit as stop:\n sys.exit(stop.code)"
    done = subprocess.run([sys.executable, "-c", guard, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "bundle" / "bundle.json").exists()
