"""Twenty photos of three products: prepared, trained frozen and unfrozen, judged with the interval that so few images leave."""

import json

import pytest
import timm
from made import write_image_folder
from safetensors.torch import save_file

from prodrec.cli import main

# timm's smallest residual network; its "pretrained" weights are a file that the test makes.
ARCH = "test_resnet"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    write_image_folder(folder / "source", {"cup": 10, "bowl": 4, "plate": 6})
    main_returns("prepare", folder / "source", folder / "shards", "--split", "0.8,0.2")
    return folder / "shards"


def main_returns(*arguments):
    """Runs the command line in this process; an exit other than 0 raises."""
    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        assert not stop.code


@pytest.mark.parametrize("frozen", [True, False])
def test_a_very_small_source_trains_and_is_judged_honestly(shards, tmp_path, capsys, frozen):
    save_file(timm.create_model(ARCH, num_classes=7).state_dict(), tmp_path / "weights.safetensors")
    settings = [f"model.arch={ARCH}", f"model.weights={tmp_path / 'weights.safetensors'}", f"model.freeze_backbone={frozen}"]
    settings += ["input.size=48", "train.batch_size=8", "train.epochs=3", "data.threads=1"]
    options = [part for setting in settings for part in ("--set", setting)]
    main_returns("train", shards, "--recipe", "resnet50_frozen", "--out", tmp_path / "run", "--local", *options)
    main_returns("evaluate", tmp_path / "run" / "bundle", shards, "--out", tmp_path / "judged")
    metrics = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    manifest = json.loads((shards / "manifest.json").read_text())
    held_out = sum(sum(file["row_groups"]) for file in manifest["splits"]["test"])
    assert metrics["n"] == held_out
    assert 3 <= held_out <= 6
    right = round(metrics["top1"] * held_out)
    for end in metrics["top1_ci95"]:
        # Wilson's ends are the shares from which the seen one lies 1.96 standard deviations away (or 0 and 1).
        assert (end - right / held_out) ** 2 == pytest.approx(1.95996**2 * end * (1 - end) / held_out, abs=1e-4)
    assert f"test: {right} of {held_out} right" in capsys.readouterr().out
    assert "95" in (tmp_path / "run" / "report" / "index.html").read_text()
