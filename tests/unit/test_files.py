import threading

import pytest

from prodrec.errors import OutputError, SourceError
from prodrec.files import Folder, locked


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    folder = Folder(tmp_path / "a" / "b").make()
    folder.write("x.json", b"first")
    folder.write("x.json", b"second")
    assert folder.read("x.json") == b"second"
    assert [info.base_name for info in folder.names()] == ["x.json"]
    folder.filesystem.create_dir(folder.within("taken/inside"))
    with pytest.raises(OutputError, match="cannot write"):
        folder.write("taken", b"a folder is in the way")
    assert folder.is_folder("taken/inside")


def test_uris_and_paths_are_the_same_place(tmp_path):
    Folder(tmp_path).write("x", b"1")
    by_uri = Folder(f"file://{tmp_path}")
    assert by_uri.read("x") == b"1"
    assert by_uri / "x" == f"file://{tmp_path}/x"
    assert [info.path for info in by_uri.walk()] == [f"{tmp_path}/x"]


def test_relative_paths_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Folder("here").uri == str(tmp_path / "here")


def test_missing_things_are_absent_not_errors(tmp_path):
    folder = Folder(tmp_path / "nowhere")
    assert not folder.exists()
    assert folder.names() == []
    folder.delete("x")
    with pytest.raises(FileNotFoundError):
        folder.read("x")


def test_an_unknown_scheme_is_named():
    with pytest.raises(SourceError, match=r"nosuch://bucket/x.*s3://bucket"):
        Folder("nosuch://bucket/x")


def test_a_lock_is_of_one_and_free_when_he_ends(tmp_path):
    entered, left = threading.Event(), []

    def second():
        with locked(Folder(tmp_path)):
            assert left, "two at once"
            entered.set()

    with locked(Folder(tmp_path)) as is_locked:
        assert is_locked
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.2)
        left.append(True)
    assert entered.wait(10)
    thread.join()
