import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prodrec.errors import ConfigError
from prodrec.serving.settings import LEAST_KEY_CHARS, ServingSettings, hash_key, read_keys, read_settings

KEY = "k" * LEAST_KEY_CHARS


def test_all_doors_are_shut_by_default():
    settings = ServingSettings()
    assert (settings.image_url, settings.bulk, settings.allow_origins) == (None, None, ())


@given(st.text())
def test_a_key_is_held_as_its_hash(key):
    assert hash_key(key) == hashlib.sha256(key.encode()).hexdigest()


def test_keys_of_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# the shop's\n{KEY}\n\n  {KEY}2  \n")
    assert read_keys(str(file)) == (hash_key(KEY), hash_key(f"{KEY}2"))


@pytest.mark.parametrize(
    "content",
    [b"", b"# none\n\n", b"short", f"{KEY}\nshort".encode(), b"\xff\xfe" * 30, ("ü" * 30).encode(), f"{KEY} {KEY}".encode()],
    ids=["empty", "comments alone", "a short one", "a short one behind a good one", "no text", "not ASCII", "two in a line"],
)
def test_keys_that_are_refused(tmp_path, content):
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="keys") as raised:
        read_keys(str(file))
    assert "\n" not in str(raised.value)
    assert KEY not in str(raised.value)
    with pytest.raises(ConfigError):
        read_keys(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("max_in_flight: 0", "max_in_flight"),
        ("max_in_flite: 3", "max_in_flight"),
        ("body_timeout_s: -1", "body_timeout_s"),
        ("allow_origins: ['*']", "allow_origins"),
        ("allow_origins: ['https://shop.example/path']", "allow_origins"),
        ("api_keys: ['a key in the clear']", "api_keys"),
        ("retry_after_s: 0.5", "retry_after_s"),
        ("image_url: {hosts: ['http://a']}", "hosts"),
        ("image_url: {hostz: ['a']}", "image_url.hostz"),
        ("- a list", "settings"),
        ("", "settings"),
        ("{", "YAML"),
        ("a: *b", "YAML"),
        ("!!python/object/apply:os.getcwd []", "YAML"),
    ],
)
def test_settings_that_are_refused_in_one_line(tmp_path, content, word):
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=word) as raised:
        read_settings(str(file))
    assert "\n" not in str(raised.value)


def test_settings_of_a_file(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(f"max_in_flight: 3\napi_keys: [{hash_key(KEY)}]\nallow_origins: ['https://shop.example:8443']\nimage_url: {{hosts: ['*']}}\n")
    settings = read_settings(str(file))
    assert (settings.max_in_flight, settings.api_keys, settings.image_url.hosts) == (3, (hash_key(KEY),), ("*",))
    assert read_settings(None) == ServingSettings()
    with pytest.raises(ConfigError):
        read_settings(str(tmp_path / "none.yaml"))
    with pytest.raises(ValidationError):
        settings.max_in_flight = 4
