"""`prodrec compare` and `prodrec registry` with tiny real recipes, without Ray."""

import json
import re
import shutil

import pytest
from made import build_shards, photo, run

from prodrec.evaluation.choice import Verdict
from prodrec.files import Folder
from prodrec.lease import held
from prodrec.models.bundle_files import load_info
from prodrec.registry import promotion
from prodrec.scoring import Recognizer
from prodrec.shards.reading import open_shards

TINY = ["--local", "--set", "train.epochs=3", "--set", "input.size=32", "--set", "train.batch_size=16", "--set", "data.threads=1", "--set", "optim.lr=0.005"]


def command(shards, out, recipes, *more):
    return ["compare", shards, "--recipes", ",".join(map(str, recipes)), "--out", out, *TINY, *more]


def sha256s(shards, split):
    return set(open_shards(shards).split(split).column("sha256").to_pylist())


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """Two that learn and one that cannot start."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "slim.yaml").write_text("model: {arch: custom_cnn, weights: none, args: {grid: 2}}")
    (folder / "broken.yaml").write_text("model: {arch: custom_cnn, weights: /no/such.pth}")
    return ["custom_cnn", folder / "slim.yaml", folder / "broken.yaml"]


@pytest.fixture(scope="module")
def compared(recipes, small_shards, tmp_path_factory):
    """Folder of a comparison, and of a registry to which it promoted."""
    folder = tmp_path_factory.mktemp("compared")
    assert run(*command(small_shards, folder / "out", recipes, "--promote", "--registry", folder / "registry")) == 0
    return folder


def test_the_page_and_its_figures_stand_alone_and_name_what_failed(compared):
    found = json.loads((compared / "out" / "compare.json").read_text())
    page = (compared / "out" / "index.html").read_text()
    assert {row["name"] for row in found["runs"]} == {"custom_cnn", "slim"}
    assert [one["name"] for one in found["failed"]] == ["broken"]
    assert "there is no file &#39;/no/such.pth&#39;" in page
    assert found["rule"].replace("'", "&#39;") in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    for row in found["runs"]:
        assert {"train", "val", "test"} == row["splits"].keys()
        assert min(row[name] for name in ("parameters", "gflops", "bundle_mb", "latency_ms", "image_ms", "images_per_s")) > 0
        assert row["training"]["rounds"] == 3
        in_the_run = json.loads((compared / "out" / "runs" / row["name"] / "report" / "test.json").read_text())
        assert row["splits"]["test"]["top1"] == pytest.approx(in_the_run["top1"], abs=1.5 / in_the_run["n"])
    wide, slim = (next(row for row in found["runs"] if row["name"] == name) for name in ("custom_cnn", "slim"))
    assert wide["parameters"] > slim["parameters"]


def test_what_is_recommended_follows_from_val_and_cost_alone(compared):
    found = json.loads((compared / "out" / "compare.json").read_text())
    right = {row["name"]: row["splits"]["val"]["top1"] for row in found["runs"]}
    assert right[found["leader"]] == max(right.values())
    chosen = next(row for row in found["runs"] if row["name"] == found["recommended"])
    assert chosen["candidate"]
    assert found["recommended_bundle"] == chosen["bundle"]
    [test] = found["tests"]
    on_test = {row["name"]: row["splits"]["test"]["top1"] for row in found["runs"]}
    assert test["first"] == found["leader"]
    assert (test["only_first_right"] - test["only_second_right"]) / test["n"] == pytest.approx(on_test[test["first"]] - on_test[test["second"]])


def test_the_same_command_trains_nothing_twice_and_other_settings_are_refused(compared, recipes, small_shards, capsys):
    names = ("custom_cnn", "slim")
    before = [(compared / "out" / "runs" / name / "bundle" / "bundle.json").stat().st_mtime_ns for name in names]
    assert run(*command(small_shards, compared / "out", recipes, "--promote", "--registry", compared / "registry")) == 0
    assert before == [(compared / "out" / "runs" / name / "bundle" / "bundle.json").stat().st_mtime_ns for name in names]
    out = capsys.readouterr().out
    assert "2 of 3 runs finished" in out
    assert "broken failed: model.weights: there is no file" in out
    assert run(*command(small_shards, compared / "out", recipes, "--set", "optim.lr=0.5")) == 2
    error = capsys.readouterr().err.strip()
    assert "optim.lr: 0.005 -> 0.5" in error
    assert len(error.splitlines()) == 1


def test_an_interrupted_comparison_says_what_to_do_and_goes_on_from_its_checkpoint(small_shards, tmp_path, capsys, monkeypatch):
    def interrupt(self, metrics):
        if metrics["epoch"] == 2:
            raise KeyboardInterrupt

    again = command(small_shards, tmp_path / "out", ["custom_cnn"])
    with monkeypatch.context() as patch:
        patch.setattr("prodrec.cli.display.RunDisplay.epoch", interrupt)
        assert run(*again) == 1
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    history = tmp_path / "out" / "runs" / "custom_cnn" / "metrics.jsonl"
    first = history.read_text().splitlines()[0]
    assert run(*again) == 0
    lines = history.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert lines[0] == first
    assert "no other run finished" in capsys.readouterr().out


def test_where_no_run_finishes_the_command_fails_and_the_page_says_why(recipes, small_shards, tmp_path, capsys):
    assert run(*command(small_shards, tmp_path / "out", recipes[2:])) == 1
    assert "none of the 1 runs finished" in capsys.readouterr().err
    assert "/no/such.pth" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (["custom_cnn", "no_such"], [], "no recipe 'no_such'"),
        (["custom_cnn", "fasterrcnn_tiny"], [], "fasterrcnn_tiny trains a tagger"),
        (["custom_cnn", "custom_cnn"], [], "custom_cnn twice"),
        (["custom_cnn", "cnn_lstm"], [], "cnn_lstm judges listings and the other recipes images"),
        ([","], [], "--recipes names none"),
        (["custom_cnn"], ["--promote"], "belong together"),
        (["custom_cnn"], ["--workers", "2"], "--local is one process"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line_before_anything_is_trained(small_shards, tmp_path, capsys, names, more, message):
    assert run(*command(small_shards, tmp_path / "out", names, *more)) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not list((tmp_path / "out").glob("runs/*"))


def test_heads_fitted_on_features_stand_beside_runs_of_epochs(recipes, tmp_path):
    shards = build_shards(tmp_path / "shards", {"red": 20, "green": 20})
    fitted = tmp_path / "fitted.yaml"
    fitted.write_text("{model: {arch: custom_cnn, weights: none}, fit: {heads: [linear, relu], weight_decays: [0.1], random_backbone: true}}")
    assert run(*command(shards, tmp_path / "out", [recipes[1], fitted])) == 0
    rounds = {row["name"]: row["training"] for row in json.loads((tmp_path / "out" / "compare.json").read_text())["runs"]}
    assert [(rounds[name]["rounds"], rounds[name]["round"]) for name in ("slim", "fitted")] == [(3, "epoch"), (2, "trial")]
    assert "2 trials" in (tmp_path / "out" / "index.html").read_text()


def test_the_tail_is_that_of_these_shards_whatever_a_bundle_learned_from_before(recipes, tmp_path):
    before, now = build_shards(tmp_path / "before", {"red": 40, "green": 40}), build_shards(tmp_path / "now", {"red": 16, "green": 60})
    train = ["train", before, "--recipe", recipes[1], "--out", tmp_path / "old", *TINY]
    assert run(*train) == 0
    further = tmp_path / "further.yaml"
    further.write_text(f"model: {{arch: custom_cnn, weights: {tmp_path / 'old' / 'bundle'}, args: {{grid: 2}}}}")
    assert run(*command(now, tmp_path / "out", [recipes[1], further])) == 0
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())["runs"]
    learned = [dict(zip(("red", "green"), load_info(row["bundle"]).train_counts, strict=True)) for row in rows if row["name"] == "further"]
    assert rows[0]["tail"]["n"] == rows[1]["tail"]["n"] > 0 and min(learned[0].values()) > 20


def test_runs_of_other_images_at_the_same_place_are_not_taken(recipes, tmp_path, capsys):
    shards, again = tmp_path / "shards", command(tmp_path / "shards", tmp_path / "out", recipes[1:2])
    build_shards(shards, {"red": 20, "green": 20})
    assert run(*again) == 0
    shutil.rmtree(shards)
    build_shards(shards, {"red": 21, "green": 20})
    assert run(*again) == 2
    assert "other images lie in" in capsys.readouterr().err


def test_shards_with_boxes_are_refused(box_shards, tmp_path, capsys):
    assert run(*command(box_shards, tmp_path / "out", ["custom_cnn"])) == 2
    assert "has boxes instead of labels" in capsys.readouterr().err


def test_a_registry_is_listed_promoted_to_and_rolled_back(small_bundle, small_shards, tmp_path, capsys):
    assert run("train", small_shards, "--recipe", "custom_cnn", "--out", tmp_path / "weak", *TINY, "--set", "optim.lr=1e-6") == 0
    weak, place = tmp_path / "weak" / "bundle", ["--registry", str(tmp_path / "registry")]
    capsys.readouterr()
    assert run("registry", "list", *place) == 0
    assert "no classifier was promoted" in capsys.readouterr().out
    assert run("registry", "promote", weak, *place) == 2, "neither shards nor a reason"
    assert run("registry", "promote", weak, small_shards, *place) == 0, "the first has nobody to beat"
    capsys.readouterr()
    assert run("registry", "promote", small_bundle, small_shards, *place) == 0
    assert re.search(r"^0002-\w+ is current .* significantly better: 2\d against \d+ of 24 val images right", capsys.readouterr().out)
    assert run("registry", "promote", weak, small_shards, *place) == 1
    assert re.search(r"not promoted, 0002-\w+ is current: significantly worse: .* --force REASON overrules", capsys.readouterr().err)
    assert run("registry", "promote", weak, "--force", "the shop asked for it", *place) == 0
    capsys.readouterr()
    assert run("registry", "list", *place) == 0
    out = capsys.readouterr().out
    weak_id = load_info(weak).bundle_id
    assert re.search(rf"^\* 0001-\w+ .* custom_cnn  bundle {weak_id}$", out, re.MULTILINE)
    assert "forced: the shop asked for it" in out
    assert run("registry", "rollback", "--why", "complaints", *place) == 0
    assert "is current again" in capsys.readouterr().out
    (tmp_path / "photo.jpg").write_bytes(photo(0, 1))
    current = tmp_path / "registry" / "classifier"
    assert run("recognize", tmp_path / "photo.jpg", "--classifier", current, "--json") == 0
    assert Recognizer.load(str(current)).classifier_info.bundle_id == load_info(small_bundle).bundle_id
    assert run("calibrate", current, small_shards, "--precision", "0.7", "--confidence", "0.8") == 2
    assert "belongs to a registry" in capsys.readouterr().err
    assert run("registry", "list", "--kind", "embedder", *place) == 2


def test_models_that_fuse_views_are_judged_by_listing_each_with_its_own_views(listing_shards, listing_run, tmp_path, capsys):
    fused = tmp_path / "fused.yaml"
    fused.write_text("model: {arch: custom_cnn, weights: none, fuse: mean}\ntrain: {early_stop: {metric: val_top1}}")
    assert run(*command(listing_shards, tmp_path / "out", [fused], "--set", "train.epochs=8")) == 0
    [row] = json.loads((tmp_path / "out" / "compare.json").read_text())["runs"]
    for split in ("val", "test"):
        assert run("evaluate", row["bundle"], listing_shards, "--split", split, "--out", tmp_path / split) == 0
        alone = json.loads((tmp_path / split / "metrics.json").read_text())
        assert alone["n"] == 32
        assert row["splits"][split]["top1"] == pytest.approx(alone["top1"], abs=1.1 / 32)
    few, place = tmp_path / "few", ["--registry", str(tmp_path / "registry")]
    same = ["train.epochs=1", "input.size=32", "train.batch_size=16", "data.threads=1", "model.max_views=1"]
    assert run("train", listing_shards, "--recipe", fused, "--out", few, "--local", *(part for one in same for part in ("--set", one))) == 0
    assert run("registry", "promote", listing_run / "bundle", listing_shards, *place) == 0
    assert run("evaluate", listing_run / "bundle", listing_shards, "--split", "val", "--out", tmp_path / "current") == 0
    right = round(json.loads((tmp_path / "current" / "metrics.json").read_text())["top1"] * 32)
    capsys.readouterr()
    assert run("registry", "promote", few / "bundle", listing_shards, *place) == 1
    assert re.search(rf"against {right} of 32", capsys.readouterr().err)


def test_what_may_have_learned_from_the_judge_is_not_promoted(recipes, tmp_path, capsys):
    before = build_shards(tmp_path / "before", {"red": 30, "green": 30})
    apart = build_shards(tmp_path / "apart", {"red": 40, "green": 40})
    grown = build_shards(tmp_path / "grown", {"red": 40, "green": 40}, earlier=[before])
    place = ["--registry", str(tmp_path / "registry")]
    for name, shards in (("old", before), ("new", grown)):
        assert run("train", shards, "--recipe", recipes[1], "--out", tmp_path / name, *TINY) == 0
    assert run("registry", "promote", tmp_path / "old" / "bundle", before, *place) == 0
    capsys.readouterr()
    assert run("registry", "promote", tmp_path / "new" / "bundle", apart, *place) == 1
    assert "the new one has learned from other shards than these, and so maybe from images that are held out here" in capsys.readouterr().err
    assert run("registry", "promote", tmp_path / "new" / "bundle", before, *place) == 1
    assert run("registry", "promote", tmp_path / "new" / "bundle", grown, *place) in (0, 1)
    told = capsys.readouterr()
    assert re.search(r"of \d+ val images right|significantly", told.out + told.err), "judged: these shards keep the split of the old one's"


def test_a_run_that_another_process_trains_is_left_to_it(recipes, small_shards, tmp_path, capsys):
    ours = Folder(tmp_path / "out" / "runs" / "custom_cnn").make()
    with held(ours, print):
        assert run(*command(small_shards, tmp_path / "out", recipes[:2])) == 0
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [one["name"] for one in found["failed"]] == ["custom_cnn"]
    assert "another process is at work" in found["failed"][0]["reason"]
    assert run(*command(small_shards, tmp_path / "out", recipes[:2])) == 0
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["failed"] == []


def test_what_a_bundle_learned_before_counts_too_and_kept_splits_are_no_chain(recipes, tmp_path, capsys):
    whole = build_shards(tmp_path / "whole", {"red": 40, "green": 40})
    part = build_shards(tmp_path / "part", {"red": 20, "green": 20}, earlier=[whole])
    grown = build_shards(tmp_path / "grown", {"red": 70, "green": 70}, earlier=[part])
    both = build_shards(tmp_path / "both", {"red": 70, "green": 70}, earlier=[part, whole])
    held_out = {name: {sha256 for split in ("val", "test") for sha256 in sha256s(shards, split)} for name, shards in (("grown", grown), ("both", both))}
    assert held_out["grown"] & sha256s(whole, "train"), "images that `part` lacked were divided anew"
    assert not held_out["both"] & sha256s(whole, "train")
    place = ["--registry", str(tmp_path / "registry")]
    assert run("train", whole, "--recipe", recipes[1], "--out", tmp_path / "first", *TINY) == 0
    assert run("train", part, "--from", tmp_path / "first" / "bundle", "--out", tmp_path / "second", *TINY) == 0
    assert run("registry", "promote", tmp_path / "second" / "bundle", part, *place) == 0
    assert run("train", part, "--recipe", recipes[1], "--out", tmp_path / "third", *TINY, "--set", "train.seed=1") == 0
    capsys.readouterr()
    assert run("registry", "promote", tmp_path / "third" / "bundle", grown, *place) == 1
    assert "the current one has learned from other shards" in capsys.readouterr().err
    assert run("registry", "promote", tmp_path / "third" / "bundle", both, *place) in (0, 1)
    told = capsys.readouterr()
    assert re.search(r"of \d+ val images right|significantly", told.out + told.err)


def test_shards_of_which_a_bundle_may_know_held_out_images_are_told_wherever_it_is_judged(recipes, tmp_path, capsys):
    before = build_shards(tmp_path / "before", {"red": 40, "green": 40})
    apart = build_shards(tmp_path / "apart", {"red": 42, "green": 40})
    kept = build_shards(tmp_path / "kept", {"red": 40, "green": 40}, earlier=[before])
    bundle, words = tmp_path / "first" / "bundle", "has learned from other shards"
    assert run("train", before, "--recipe", recipes[1], "--out", tmp_path / "first", *TINY, "--set", "train.epochs=8") == 0
    for shards, doubted in ((before, False), (kept, False), (apart, True)):
        capsys.readouterr()
        assert run("evaluate", bundle, shards, "--out", tmp_path / "judged") == 0
        assert (words in capsys.readouterr().out) == doubted
        assert (words in (tmp_path / "judged" / "index.html").read_text()) == doubted
        assert run("train", shards, "--from", bundle, "--out", tmp_path / f"further-{shards.rpartition('/')[2]}", *TINY) == 0
        assert capsys.readouterr().out.count(words) == 2 * doubted, "before the first epoch and beside the figures"
        assert run("calibrate", bundle, shards, "--precision", "0.5", "--confidence", "0.6") == 0
        assert (words in capsys.readouterr().out) == doubted
        assert run("registry", "promote", bundle, before, "--registry", tmp_path / f"registry-{shards.rpartition('/')[2]}") == doubted
        told = capsys.readouterr().err
        assert ("not promoted, nothing is current: its thresholds were chosen on images that it may have learned from" in told) == doubted
    assert run("evaluate", bundle, apart, "--split", "train", "--out", tmp_path / "judged") == 0
    assert words not in capsys.readouterr().out


def test_what_was_recommended_once_is_promoted_though_times_vary(recipes, small_shards, tmp_path, capsys):
    out, again = tmp_path / "out", command(small_shards, tmp_path / "out", recipes[:2])
    assert run(*again) == 0
    first = json.loads((out / "compare.json").read_text())
    assert run(*again, "--promote", "--registry", tmp_path / "registry") == 0
    second = json.loads((out / "compare.json").read_text())
    assert second.pop("promotion")["promoted"]
    assert second | {"promotion": None, "judged_before": False} == first, "nothing was judged or timed anew"
    assert f"judged at {first['judged']} already" in capsys.readouterr().out
    assert run(*again, "--promote", "--registry", tmp_path / "registry") == 0
    page = (out / "index.html").read_text()
    assert "Nothing was promoted" in page and "it is the current one already (the first of this registry" in page
    assert run("calibrate", first["recommended_bundle"], small_shards, "--precision", "0.5", "--confidence", "0.6") == 0
    assert run(*again) == 0
    assert json.loads((out / "compare.json").read_text())["runs"] != first["runs"], "its bundle is another one now"


def test_what_could_not_be_judged_once_is_not_told_of_others(recipes, small_shards, tmp_path):
    out = tmp_path / "out"
    assert run(*command(small_shards, out, recipes[:2])) == 0
    (out / "compare.json").write_text("[]")
    weights = out / "runs" / "slim" / "bundle" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run(*command(small_shards, out, recipes[:2])) == 0
    assert [one["name"] for one in json.loads((out / "compare.json").read_text())["failed"]] == ["slim"]
    assert run(*command(small_shards, out, recipes[:1])) == 0
    found = json.loads((out / "compare.json").read_text())
    assert (found["judged_before"], found["failed"]) == (True, [])


def test_a_part_of_the_images_is_told_as_a_part(recipes, small_shards, tmp_path):
    assert run(*command(small_shards, tmp_path / "out", recipes[:2], "--set", "data.limit=60")) == 0
    [row, _] = json.loads((tmp_path / "out" / "compare.json").read_text())["runs"]
    assert row["train_part"] == open_shards(small_shards).limited(60).split("train").rows < open_shards(small_shards).split("train").rows
    assert f"of {row['train_part']} images" in (tmp_path / "out" / "index.html").read_text()


def test_what_a_rollback_took_away_comes_back_by_force_alone(recipes, small_shards, small_bundle, calibrated_bundle, tmp_path, capsys):
    place = ["--registry", str(tmp_path / "registry")]
    assert run("train", small_shards, "--recipe", recipes[1], "--out", tmp_path / "poor", *TINY, "--set", "optim.lr=1e-6", "--set", "train.epochs=1") == 0
    assert run("registry", "promote", tmp_path / "poor" / "bundle", small_shards, *place) == 0
    assert run("registry", "promote", small_bundle, small_shards, *place) == 0
    assert run("registry", "rollback", "--why", "complaints", *place) == 0
    capsys.readouterr()
    assert run("registry", "promote", small_bundle, small_shards, *place) == 1
    assert "a rollback took it away (complaints)" in capsys.readouterr().err
    assert run("registry", "promote", calibrated_bundle, small_shards, *place) == 1, "new thresholds do not mend the weights"
    assert "a rollback took it away (complaints)" in capsys.readouterr().err
    assert run("registry", "promote", small_bundle, "--force", "they were wrong", *place) == 0
    assert run("registry", "rollback", *place) == 0
    assert run("registry", "promote", small_bundle, "--force", "again", *place) == 0
    assert run("registry", "promote", calibrated_bundle, small_shards, *place) == 0, "of weights that are current"
    assert run("registry", "rollback", "--why", "too bold", *place) == 0
    capsys.readouterr()
    assert run("registry", "promote", calibrated_bundle, small_shards, *place) == 1
    assert "a rollback took it away (too bold)" in capsys.readouterr().err


def test_the_same_weights_without_their_thresholds_are_not_promoted(small_bundle, calibrated_bundle, small_shards, tmp_path, capsys):
    place = ["--registry", str(tmp_path)]
    assert run("registry", "promote", calibrated_bundle, small_shards, *place) == 0
    capsys.readouterr()
    assert run("registry", "promote", small_bundle, small_shards, *place) == 1
    assert "the same weights without thresholds to accept by" in capsys.readouterr().err


def test_one_that_accepts_photos_is_not_replaced_by_one_without_thresholds(calibrated_bundle, small_shards, tmp_path, capsys, monkeypatch):
    place = ["--registry", str(tmp_path / "registry")]
    assert run("train", small_shards, "--recipe", "custom_cnn", "--out", tmp_path / "new", *TINY, "--set", "train.epochs=1") == 0
    assert run("registry", "promote", calibrated_bundle, small_shards, *place) == 0
    monkeypatch.setattr(promotion, "beats", lambda challenger, current: Verdict(True, "significantly better"))
    capsys.readouterr()
    assert run("registry", "promote", tmp_path / "new" / "bundle", small_shards, *place) == 1
    told = "it has no thresholds to accept by, which the current one has: `prodrec calibrate` it first; significantly better"
    assert told in capsys.readouterr().err
    assert run("calibrate", tmp_path / "new" / "bundle", small_shards, "--precision", "0.5", "--confidence", "0.5") == 0
    assert run("registry", "promote", tmp_path / "new" / "bundle", small_shards, *place) == 0


def test_a_bundle_that_was_calibrated_takes_the_place_of_itself(small_bundle, calibrated_bundle, small_shards, tmp_path, capsys):
    place = ["--registry", str(tmp_path)]
    assert run("registry", "promote", small_bundle, small_shards, *place) == 0
    assert run("registry", "promote", calibrated_bundle, small_shards, *place) == 0
    assert "the same weights, with a calibration" in capsys.readouterr().out
