"""The command line and the files that other programs rely on, without Ray."""

import json

import pytest
import torch
from made import photo, run

TINY = ["--set", "train.epochs=6", "--set", "input.size=32", "--set", "train.batch_size=16", "--set", "optim.lr=0.01", "--set", "data.threads=1"]
TIMES = {"images_per_s", "data_wait_s", "seconds"}


@pytest.fixture(scope="module")
def finished(small_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run("train", small_shards, "--recipe", "custom_cnn", "--out", folder, "--local", *TINY) == 0
    return folder


def test_a_run_leaves_what_the_design_names(finished):
    for name in ("config.yaml", "metrics.jsonl", "bundle/model.safetensors", "bundle/bundle.json", "bundle/README.md", "report/index.html"):
        assert (finished / name).stat().st_size > 0, name
    assert len((finished / "metrics.jsonl").read_text().splitlines()) == 6
    report = (finished / "report/index.html").read_text()
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert "https://" not in report


def test_two_runs_with_one_seed_give_the_same_numbers_to_the_last_bit(small_shards, tmp_path):
    """Whatever stood in the process's random state before, and however many threads decode."""
    craft = {"augment.policy": "trivial", "augment.mix": 0.5, "augment.start_size": 32, "input.size": 64, "model.dropout": 0.2}
    craft |= {"train.ema_decay": 0.9, "train.average_best": 2, "train.epochs": 3}
    settings = [part for name, value in craft.items() for part in ("--set", f"{name}={value}")]
    for name, seed, threads in (("one", 7, 1), ("two", 7, 3), ("other", 8, 1)):
        torch.manual_seed(threads)
        chosen = ["--set", f"train.seed={seed}", "--set", f"data.threads={threads}"]
        assert run("train", small_shards, "--recipe", "custom_cnn", "--out", tmp_path / name, "--local", *TINY, *settings, *chosen) == 0

    def numbers(name):
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        reports = [json.loads((tmp_path / name / "report" / f"{split}.json").read_text()) for split in ("train", "val", "test")]
        return [{key: value for key, value in line.items() if key not in TIMES} for line in lines], reports

    assert numbers("one") == numbers("two") != numbers("other")
    weights = [(tmp_path / name / "bundle" / "model.safetensors").read_bytes() for name in ("one", "two", "other")]
    assert weights[0] == weights[1] != weights[2]


def test_a_student_learns_from_its_teachers_answers_and_its_bundle_names_it(finished, small_shards, tmp_path, capsys):
    from made import build_shards

    from prodrec.models.bundle_files import load_info

    student = ["train", small_shards, "--recipe", "custom_cnn", "--local", "--teacher", finished / "bundle", *TINY, "--set", "augment.mix=0.5"]
    assert run(*student, "--out", tmp_path / "s", "--set", "distill.weight=1", "--set", "optim.label_smoothing=0") == 0
    info = load_info(tmp_path / "s" / "bundle")
    assert info.teacher == load_info(finished / "bundle").bundle_id
    assert info.recipe["distill"] == {"teacher": str(finished / "bundle"), "temperature": 2.0, "weight": 1.0}
    history = [json.loads(line) for line in (tmp_path / "s" / "metrics.jsonl").read_text().splitlines()]
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"], "it comes to answer as its teacher does"
    strangers = build_shards(tmp_path / "strangers", {"red": 10, "unseen": 10})
    capsys.readouterr()
    assert run("train", strangers, "--recipe", "custom_cnn", "--local", "--teacher", finished / "bundle", "--out", tmp_path / "x") == 2
    assert "does not know 1 of 2 labels (unseen)" in capsys.readouterr().err
    assert run(*student[:-2], "--set", "model.fuse=mean", "--out", tmp_path / "y") == 2
    assert "model.fuse takes listings" in capsys.readouterr().err
    assert run(*student[:-2], "--set", "train.compile=true", "--out", tmp_path / "y") == 2
    assert "train.compile does not know the teacher" in capsys.readouterr().err


def test_evaluate_agrees_with_the_run_and_prints_an_interval(finished, small_shards, tmp_path, capsys):
    assert run("evaluate", finished / "bundle", small_shards, "--split", "test", "--out", tmp_path / "e") == 0
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert {"split", "n", "top1", "top5", "macro_f1", "ece", "top1_ci95", "per_class"} <= metrics.keys()
    assert 0 <= metrics["top1_ci95"][0] <= metrics["top1"] <= metrics["top1_ci95"][1] <= 1
    at_the_end = json.loads((finished / "report" / "test.json").read_text())
    assert metrics["top1"] == pytest.approx(at_the_end["top1"], abs=1.5 / metrics["n"])
    out = capsys.readouterr().out
    assert f"of {metrics['n']} right" in out
    assert "95 % interval" in out


def test_a_finished_run_is_left_alone_and_a_started_one_is_not_overwritten(finished, small_shards, capsys):
    before = (finished / "bundle" / "bundle.json").stat().st_mtime_ns
    again = ["train", small_shards, "--recipe", "custom_cnn", "--out", finished, "--local", *TINY]
    assert run(*again) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert run(*again, "--set", "optim.lr=0.5", "--resume") == 2
    assert "optim.lr: 0.01 -> 0.5" in capsys.readouterr().err, "its bundle is made"
    assert run(*again, "--resume") == 0
    assert run("train", again[1], "--out", again[again.index("--out") + 1], "--local", "--resume") == 0, "its recipe is known"
    bare = ["train", again[1], "--out", again[again.index("--out") + 1], "--local", "--resume"]
    capsys.readouterr()
    assert run(*bare, "--set", "optim.lr=0.5") == 2
    assert "started otherwise (optim.lr: 0.01 -> 0.5)" in capsys.readouterr().err, "nothing else differs from its own recipe"
    assert run(*bare, "--set", "optim.lr=0.01") == 0
    assert (finished / "bundle" / "bundle.json").stat().st_mtime_ns == before


def test_resuming_where_no_run_is_starts_none_unasked(small_shards, tmp_path, capsys):
    assert run("train", small_shards, "--out", tmp_path / "elsewhere", "--local", "--resume") == 2
    assert f"there is no run in {tmp_path / 'elsewhere'} to go on with" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_that_never_began_leaves_its_folder_free(small_shards, tmp_path, capsys):
    command = ["train", small_shards, "--recipe", "custom_cnn", "--out", tmp_path / "run", "--local", *TINY, "--set", "train.epochs=1"]
    assert run(*command, "--set", "model.weights=/no/such.pth") == 2
    assert run(*command) == 0


def test_a_bundle_knows_labels_by_name_not_by_number(finished, small_shards, tmp_path, capsys):
    from made import build_shards

    other = build_shards(tmp_path / "other", {"red": 20, "green": 20})
    assert run("evaluate", finished / "bundle", other, "--out", tmp_path / "e") == 0
    top1 = json.loads((tmp_path / "e" / "metrics.json").read_text())["top1"]
    assert top1 > 0.5
    stranger = build_shards(tmp_path / "stranger", {"red": 10, "unseen": 10})
    assert run("evaluate", finished / "bundle", stranger, "--out", tmp_path / "e2") == 2
    assert "unseen" in capsys.readouterr().err
    assert not (tmp_path / "e2" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "no_such"], "no recipe 'no_such'; known: "),
        (["--set", "model.depth=3"], "unknown key 'model.depth'; valid here: arch, weights,"),
        (["--set", "optim.lr=fast"], "optim.lr"),
        (["--set", "optim"], "expected a.b=value"),
        (["--workers", "0"], "expected a number such as 4"),
        (["--set", "model.arch=resnet19"], "unknown model.arch 'resnet19'"),
        (["--set", "model.weights=/no/such.pth"], "/no/such.pth"),
        (["--set", "data.lanes=40"], "two images a lane"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(small_shards, tmp_path, capsys, arguments, message):
    options = ["--recipe", "custom_cnn"] if "--recipe" not in arguments else []
    assert run("train", small_shards, "--out", tmp_path / "run", "--local", *options, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run" / "bundle").exists()


def test_recognize_names_the_product_with_the_probability_of_its_bundle(finished, tmp_path, capsys):
    from prodrec.images.decode import decode_rgb, prepare_image
    from prodrec.images.transforms import resize
    from prodrec.models.bundle import load_bundle
    from prodrec.models.scorer import Scorer

    (tmp_path / "a.jpg").write_bytes(photo(0, 700))
    (tmp_path / "b.jpg").write_bytes(b"no image")
    assert run("recognize", tmp_path / "a.jpg", tmp_path / "b.jpg", "--classifier", finished / "bundle", "--json") == 0
    good, bad = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert bad["code"] == "not_an_image"
    bundle = load_bundle(finished / "bundle", kind="classifier")
    pixels = resize(decode_rgb(prepare_image(photo(0, 700), 320).jpeg), bundle.info.input)
    probabilities = (Scorer(bundle, torch.device("cpu"))(pixels[None]) / bundle.info.temperature).softmax(1)[0]
    best = int(probabilities.argmax())
    assert good["products"][0]["label"] == bundle.info.labels[best].name
    assert good["products"][0]["probability"] == pytest.approx(float(probabilities[best]), abs=1e-4)
    assert len(good["products"]) == 4
    assert run("recognize", tmp_path / "a.jpg") == 2
    assert "give --classifier" in capsys.readouterr().err


def test_the_kept_epoch_is_told_and_local_runs_have_one_process(finished, small_shards, capsys):
    assert run("train", small_shards, "--recipe", "custom_cnn", "--out", finished, "--local", *TINY, "--resume") == 0
    out = capsys.readouterr().out
    assert "is finished already" in out
    history = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    best = max(entry["val_top1"] for entry in history)
    assert f"of 6 (val_top1 {best:.3f})" in out
    assert run("train", small_shards, "--recipe", "custom_cnn", "--out", finished / "x", "--local", "--workers", "2") == 2
    assert "--local is one process" in capsys.readouterr().err
