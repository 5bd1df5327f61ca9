import json
import resource
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from made import photo
from pyarrow import fs

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.errors import BundleError, OutputError
from prodrec.files import Folder
from prodrec.label_photos import PHOTOS, photo_id
from prodrec.labels import Label
from prodrec.models import bundle_files
from prodrec.models.bundle import load_bundle, write_bundle
from prodrec.models.bundle_files import copy_bundle
from prodrec.models.bundle_info import ClassifierInfo
from prodrec.models.registry import create_classifier

FILES = {"model.safetensors", "README.md", "bundle.json"}


def made(arch="custom_cnn", num_classes=3, size=32, **fields):
    """A classifier whose batch norms have seen images, and its info."""
    config = ModelConfig(arch=arch, weights="none", **fields)
    model = create_classifier(config, num_classes, size)
    model(torch.randn(4, 3, size, size))
    info = ClassifierInfo(
        model=config,
        input=PreprocessSpec(size=size),
        labels=[Label(name=f"product {i}", group="all") for i in range(num_classes)],
        temperature=1.25,
        metrics={"split": "test", "n": 40, "top1": 0.75, "top1_ci95": [0.6, 0.86]},
        recipe={"name": "tiny", "model": config.model_dump()},
        train_counts=[60, 60],
        embedding_dim=model.embedding_dim,
        data_manifest_sha256="ab" * 32,
    )
    return model.eval(), info


@pytest.fixture
def written(tmp_path):
    folder = tmp_path / "bundle"
    write_bundle(folder, *made())
    return folder


def refused(folder):
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def edit(folder, **changes):
    file = folder / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@hypothesis_settings(max_examples=12)
@given(
    arch=st.sampled_from(["custom_cnn", "test_resnet", "test_vit"]),
    head=st.sampled_from(["linear", "mlp", "cosine", "arcface"]),
    num_classes=st.integers(1, 9),
    precision=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_what_is_loaded_gives_the_very_logits_of_what_was_written(arch, head, num_classes, precision, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "bundle"
    model, info = made(arch, num_classes, head=head, freeze_backbone=True, dropout=0.2)
    model.to(precision)
    write_bundle(folder, model, info)
    loaded = load_bundle(folder)
    images = torch.randn(3, 3, 32, 32, dtype=precision)
    assert torch.equal(loaded.model(images), model(images))
    for there, expected in zip(loaded.model.described(images), model.described(images), strict=True):
        assert there is expected is None or torch.equal(there, expected)
    assert loaded.info == info.model_copy(update={"weights_sha256": loaded.info.weights_sha256})
    assert {file.name for file in folder.iterdir()} == FILES


def test_loading_needs_no_network_whatever_training_started_from(tmp_path, monkeypatch):
    model, info = made("test_resnet")
    write_bundle(tmp_path / "b", model, info.model_copy(update={"model": ModelConfig(arch="test_resnet", weights="hub")}))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert load_bundle(tmp_path / "b").info.model.weights == "hub"


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.compile, lambda model: torch.nn.DataParallel(torch.compile(model))])
def test_wrappers_leave_no_trace(wrap, tmp_path):
    model, info = made()
    model.backbone = torch.compile(model.backbone)
    write_bundle(tmp_path / "b", wrap(model), info)
    names = load_bundle(tmp_path / "b").model.state_dict().keys()
    assert names == made()[0].state_dict().keys()


def test_channels_last_models_are_stored_in_the_common_layout(tmp_path):
    model, info = made()
    write_bundle(tmp_path / "b", model.to(memory_format=torch.channels_last), info)
    assert all(value.is_contiguous() for value in load_bundle(tmp_path / "b").model.state_dict().values())


@hypothesis_settings(max_examples=15)
@given(data=st.data())
def test_one_changed_or_missing_byte_of_the_weights_is_found(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "bundle"
    write_bundle(folder, *made())
    weights = bytearray((folder / "model.safetensors").read_bytes())
    place = data.draw(st.integers(0, len(weights) - 1))
    if data.draw(st.booleans()):
        weights[place] ^= data.draw(st.integers(1, 255))
    else:
        del weights[place:]
    (folder / "model.safetensors").write_bytes(weights)
    assert "changed or cut short" in refused(folder)


@pytest.mark.parametrize("name", sorted(FILES - {"README.md"}))
def test_a_missing_file_is_named(name, written):
    (written / name).unlink()
    assert f"{name} is missing" in refused(written)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "schema version 2, this prodrec reads 1"),
        ({"kind": "detector"}, "kind 'detector', expected classifier or tagger"),
        ({"labels": [{"name": "a"}, {"name": "b"}]}, "2 labels, the head has 3 classes"),
        ({"embedding_dim": 9}, "embedding_dim 9, the head has None"),
        ({"labels": []}, "labels"),
        ({"temperature": 0}, "temperature"),
        ({"colour": "red"}, "unknown key 'colour'; valid here: schema_version"),
        ({"model": {"arch": "resnet81", "weights": "none"}}, "resnet81"),
        ({"model": {"arch": "test_resnet", "weights": "none"}}, "do not fit the architecture"),
        ({"weights_sha256": ""}, "changed or cut short"),
    ],
)
def test_an_info_that_is_wrong_is_told(changes, words, written):
    edit(written, **changes)
    assert words in refused(written)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_an_info_that_is_no_object_is_told(content, written):
    (written / "bundle.json").write_bytes(content)
    assert "bundle.json" in refused(written)


def test_places_that_are_no_folders_are_told(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file")
    refused(tmp_path / "nothing")
    with pytest.raises(BundleError, match="nosuch"):
        load_bundle("nosuch://bucket/bundle")


def test_a_bundle_replaces_an_older_one(written):
    model, info = made(num_classes=5)
    write_bundle(written, model, info)
    assert len(load_bundle(written).info.labels) == 5
    assert [place.name for place in written.parent.iterdir()] == ["bundle"]


def test_photos_of_labels_go_with_the_bundle_and_leave_with_it(written):
    jpegs = {photo_id(jpeg): jpeg for jpeg in (photo(0, 0), photo(0, 1))}
    write_bundle(written, *made(), jpegs)
    copy = written.with_name("copy")
    copy_bundle(written, copy)
    for folder in (written, copy):
        assert {path.name for path in folder.iterdir()} == FILES | {PHOTOS}
        assert load_bundle(folder).photos.chosen(jpegs) == jpegs
    write_bundle(copy, *made())
    assert {path.name for path in copy.iterdir()} == FILES
    assert load_bundle(copy).photos.chosen(jpegs) == {}
    bundle_files._write_in_place(Folder(written), dict.fromkeys(FILES, b"x"))
    assert not (written / PHOTOS).exists(), "on an object store, too"


def test_a_bundle_without_titles_has_the_id_that_it_always_had():
    facts = {"metrics": {}, "recipe": {}, "data_manifest_sha256": "ab", "code_version": "1", "created": "2026-11-28T00:00:00+00:00", "weights_sha256": "cd"}
    labels = [Label(name="6", group="g"), Label(name="7")]
    config, spec = ModelConfig(arch="custom_cnn", weights="none"), PreprocessSpec(size=32)
    info = ClassifierInfo(model=config, input=spec, labels=labels, temperature=1.0, train_counts=[1, 1], **facts)
    assert info.bundle_id == "bf0ef309e6dd8814", "as computed by the version before there were titles"
    for name in ("title", "group_title", "link", "photo"):
        changed = [labels[0].model_copy(update={name: "https://x.example"}), labels[1]]
        assert info.model_copy(update={"labels": changed}).bundle_id != info.bundle_id


def test_a_link_of_a_strange_bundle_is_checked(written):
    edit(written, labels=[{"name": "a", "link": "javascript:alert(1)"}] * 3)
    assert "is no http(s) address" in refused(written)


def test_a_full_disk_leaves_the_older_bundle_as_it_was(written):
    before = load_bundle(written).info
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match=r"bundle/model\.safetensors: File too large"):
            write_bundle(written, *made(num_classes=5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_bundle(written).info == before
    assert [place.name for place in written.parent.iterdir()] == ["bundle"]


def test_a_failed_swap_leaves_the_older_bundle_as_it_was(written, monkeypatch):
    before = load_bundle(written).info
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError):
        write_bundle(written, *made(num_classes=5))
    assert load_bundle(written).info == before
    assert [place.name for place in written.parent.iterdir()] == ["bundle"]


def test_other_peoples_files_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    for taken in (tmp_path, tmp_path / "thesis.txt", tmp_path / "thesis.txt" / "below"):
        with pytest.raises(OutputError) as caught:
            write_bundle(taken, *made())
        assert "\n" not in str(caught.value)
    assert (tmp_path / "thesis.txt").read_text() == "x"


def test_a_model_without_the_labels_classes_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="4 labels, the head has 3 classes"):
        write_bundle(tmp_path / "b", made()[0], made(num_classes=4)[1])
    assert not list(tmp_path.iterdir())


def test_on_an_object_store_the_info_goes_first_and_comes_last(tmp_path, monkeypatch):
    class Store(Folder):
        def __init__(self, uri):
            self.uri, self.path, self.filesystem = str(uri), "bucket/bundle", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())

        def write(self, name, data):
            steps.append((name, self.exists("bundle.json")))
            super().write(name, data)

    steps = []
    monkeypatch.setattr(bundle_files, "Folder", Store)
    for num_classes in (3, 4):
        steps.clear()
        write_bundle("s3://bucket/bundle", *made(num_classes=num_classes))
        assert steps == [("model.safetensors", False), ("README.md", False), ("bundle.json", False)]
        assert len(load_bundle("s3://bucket/bundle").info.labels) == num_classes


def test_the_card_tells_results_limits_and_labels(tmp_path):
    model, info = made(num_classes=40)
    hostile = Label(name="a|b\n# <script>", group=None)
    write_bundle(tmp_path / "b", model, info.model_copy(update={"labels": [hostile, *info.labels[1:]]}))
    card = (tmp_path / "b" / "README.md").read_text()
    for words in ("40 products", "40 images of the test split", "0.7500 (0.6000 to 0.8600)", "120 images", "32 x 32", "load_bundle", "10 more"):
        assert words in card
    assert "a\\|b \\# \\<script\\>" in card


def test_the_card_of_an_unmeasured_model_says_so(tmp_path):
    model, info = made()
    write_bundle(tmp_path / "b", model, info.model_copy(update={"metrics": {}}))
    assert "Not measured." in (tmp_path / "b" / "README.md").read_text()


def test_the_card_tells_of_embeddings_and_of_mirrored_images(tmp_path):
    model, info = made(head="cosine", head_args={"embedding_dim": 6})
    write_bundle(tmp_path / "b", model, info.model_copy(update={"input": PreprocessSpec(size=32, flip=True)}))
    card = (tmp_path / "b" / "README.md").read_text()
    assert "embeddings [B, 6]" in card
    assert "mean of the logits with those of the mirrored image" in card
    write_bundle(tmp_path / "b", *made())
    card = (tmp_path / "b" / "README.md").read_text()
    assert "mirrored" not in card
    assert "embedding" not in card
