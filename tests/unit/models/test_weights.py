import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from prodrec.config import ModelConfig
from prodrec.errors import WeightsError
from prodrec.models.registry import MODELS, create_classifier
from prodrec.models.weights import hub_backbone, load_file

# Nothing listens on the discard port.
CLOSED_PORT = "http://127.0.0.1:9"


def classifier(weights, arch="test_resnet", num_classes=5, size=32, **fields):
    return create_classifier(ModelConfig(arch=arch, weights=str(weights), **fields), num_classes, size)


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in state.items())


def message_of(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


def point_at(monkeypatch, endpoint, offline=False):
    """Does what HF_ENDPOINT and HF_HUB_OFFLINE do; the client reads them once, at import."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server that answers as the Hugging Face hub does, an empty cache, and the files that the server has."""
    files = {}

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            data = files.get(self.path)
            self.send_response(200 if data or self.path == "/" else 404)
            for name, value in {"X-Repo-Commit": "a" * 40, "ETag": '"1"', "Content-Length": str(len(data or b""))}.items():
                self.send_header(name, value)
            self.end_headers()
            return data

        def do_GET(self):
            self.wfile.write(self.do_HEAD() or b"")

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    point_at(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield files
    server.shutdown()
    server.server_close()


def publish(hub, name, **args):
    """Puts a model with random weights where timm looks for its published ones."""
    model = timm.create_model(name, **args)
    hub[f"/{timm.get_pretrained_cfg(name).hf_hub_id}/resolve/main/model.safetensors"] = save(model.state_dict())
    return model.reset_classifier(0) or model.state_dict()


def test_hub_weights_arrive_whole_and_are_kept_for_later(hub, monkeypatch):
    published = publish(hub, "test_resnet")
    assert same(classifier("hub").backbone.state_dict(), published)
    point_at(monkeypatch, CLOSED_PORT)
    assert same(classifier("hub").backbone.state_dict(), published)


def test_hub_position_embeddings_are_resized_to_the_input(hub):
    published = publish(hub, "test_vit")
    loaded = classifier("hub", arch="test_vit", size=64).backbone.state_dict()
    assert loaded.pop("pos_embed").shape[1] == 16 + 1
    del published["pos_embed"]
    assert same(loaded, published)


@pytest.mark.parametrize("arch", ["dinov2", "siglip", "clip"])
def test_foundation_backbones_load_at_the_size_of_their_recipe(hub, arch):
    thin = {"depth": 2, "embed_dim": 48, "num_heads": 2}
    published = publish(hub, MODELS[arch], **thin)
    size = 28 if arch == "dinov2" else 32
    loaded = classifier("hub", arch=arch, size=size, args=thin).backbone.state_dict()
    assert loaded.pop("pos_embed").shape[1] == 4 + (arch != "siglip")  # siglip pools by attention and has no class token
    published.pop("pos_embed")
    assert same(loaded, published)


def test_hub_weights_that_leave_tensors_random_are_refused(hub):
    publish(hub, "test_vit")
    with pytest.raises(WeightsError) as caught:
        classifier("hub", arch="test_vit", args={"depth": 7})
    assert "blocks.6" in message_of(caught)


def test_weights_that_the_hub_lacks_are_an_error(hub):
    with pytest.raises(WeightsError) as caught:
        classifier("hub")
    assert "model.weights=none" in message_of(caught)
    assert "test_resnet" in message_of(caught)


@pytest.mark.parametrize("offline", [False, True])
def test_an_unreachable_hub_is_an_error_at_once(offline, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    point_at(monkeypatch, CLOSED_PORT, offline)
    begun = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        classifier("hub")
    assert time.monotonic() - begun < 5
    message = message_of(caught)
    assert ("HF_HUB_OFFLINE" if offline else "Connection refused") in message
    assert "model.weights=none" in message
    assert "model.weights=PATH" in message


def test_an_architecture_without_published_weights_is_an_error():
    with pytest.raises(WeightsError, match="no pretrained weights of custom_cnn"):
        classifier("hub", arch="custom_cnn")
    with pytest.raises(WeightsError, match="no pretrained weights of mine"):
        hub_backbone("mine", "botnet50ts_256", 256, {})


FORMATS = {
    "a.safetensors": save_file,
    "plain.pth": torch.save,
    "state_dict.pt": lambda state, file: torch.save({"state_dict": state, "epoch": 3}, file),
    "model.pth": lambda state, file: torch.save({"model": state}, file),
    "parallel.pth": lambda state, file: torch.save({f"module.{name}": value for name, value in state.items()}, file),
    "compiled.pth": lambda state, file: torch.save({f"_orig_mod.{name}": value for name, value in state.items()}, file),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("num_classes", [0, 9])
def test_timm_files_load_with_and_without_classifier(name, num_classes, tmp_path):
    state = timm.create_model("test_resnet", num_classes=num_classes).state_dict()
    FORMATS[name](state, tmp_path / name)
    loaded = classifier(tmp_path / name).backbone.state_dict()
    assert same(loaded, {name: value for name, value in state.items() if not name.startswith("fc.")})


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("arch", ["custom_cnn", "test_vit"])
def test_own_files_load_with_their_head(name, arch, tmp_path):
    trained = classifier("none", arch=arch)
    FORMATS[name](trained.state_dict(), tmp_path / name)
    assert same(classifier(tmp_path / name, arch=arch).state_dict(), trained.state_dict())


def test_a_head_of_other_classes_is_left_fresh(tmp_path):
    trained = classifier("none", num_classes=4)
    torch.save(trained.state_dict(), tmp_path / "own.pth")
    loaded = classifier(tmp_path / "own.pth", num_classes=6)
    assert same(loaded.backbone.state_dict(), trained.backbone.state_dict())
    assert loaded.head.logits.out_features == 6


def test_position_embeddings_of_a_file_are_resized_to_the_input(tmp_path):
    trained = classifier("none", arch="test_vit", size=160)
    torch.save(trained.state_dict(), tmp_path / "own.pth")
    loaded = classifier(tmp_path / "own.pth", arch="test_vit", size=64)
    assert loaded.backbone.pos_embed.shape[1] == 16 + 1
    assert torch.equal(loaded.backbone.cls_token, trained.backbone.cls_token)


def test_files_without_step_counters_load(tmp_path):
    state = {name: value for name, value in timm.create_model("test_resnet").state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    assert torch.equal(classifier(tmp_path / "old.pth").backbone.conv1[0].weight, state["conv1.0.weight"])


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_missing_and_reshaped_tensors_are_counted_and_named(data, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "part.pth"
    fresh = classifier("none", arch="custom_cnn")
    state = fresh.backbone.state_dict()
    names = st.lists(st.sampled_from([name for name in state if "num_batches" not in name]), unique=True, max_size=9)
    gone, reshaped = data.draw(names), data.draw(names.filter(len))
    kept = {name: torch.zeros(7, 7) if name in reshaped else value for name, value in state.items() if name not in gone}
    torch.save(kept, file)
    wrong = [name for name in reshaped if name not in gone]
    if not gone and not wrong:
        load_file(str(file), "custom_cnn", fresh.backbone, fresh.head)
        return
    with pytest.raises(WeightsError) as caught:
        load_file(str(file), "custom_cnn", fresh.backbone, fresh.head)
    message = message_of(caught)
    assert (f"{len(gone)} missing" in message) == bool(gone)
    assert (f"{len(wrong)} of another shape" in message) == bool(wrong)
    assert sum(name in message for name in gone) >= min(3, len(gone))


def test_a_larger_network_of_the_same_family_does_not_pass_for_a_smaller_one(tmp_path):
    torch.save(timm.create_model("test_vit", depth=8).state_dict(), tmp_path / "deep.pth")
    with pytest.raises(WeightsError, match=r"24 too many \(blocks\.6\."):
        classifier(tmp_path / "deep.pth", arch="test_vit", size=160)


class Code:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": Code(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError) as caught:
        classifier(tmp_path / "evil.pth")
    assert "evil.pth" in message_of(caught)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("cut", [0, 10, 5000])
def test_a_file_cut_short_is_refused(name, cut, tmp_path):
    FORMATS["a.safetensors" if "safe" in name else "plain.pth"](timm.create_model("test_resnet").state_dict(), tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:cut])
    with pytest.raises(WeightsError) as caught:
        classifier(tmp_path / name)
    assert name in message_of(caught)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)], {"model": {"a": 1}}, torch.zeros(3)])
def test_a_file_without_tensors_by_name_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError) as caught:
        classifier(tmp_path / "x.pth")
    assert "x.pth" in message_of(caught)


@pytest.mark.parametrize(("path", "words"), [("hbu", "hub, none"), (".", "folder"), ("notes.txt", ".safetensors")])
def test_a_path_that_is_no_weights_file_is_told(path, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("hello")
    with pytest.raises(WeightsError) as caught:
        classifier(path)
    assert words in message_of(caught)
