"""The cache folder of each system, also where another one runs the test."""

import sys
from pathlib import Path

import pytest

from speechssl.caches import cache_folder, cache_subfolder, kept_object, writable

HOME = Path.home()


@pytest.mark.parametrize(
    ("platform", "environ", "folder"),
    [
        ("linux", {}, HOME / ".cache"),
        ("linux", {"XDG_CACHE_HOME": "/var/mine"}, Path("/var/mine")),
        ("linux", {"XDG_CACHE_HOME": "relative"}, HOME / ".cache"),
        ("linux", {"XDG_CACHE_HOME": ""}, HOME / ".cache"),
        ("linux", {"LOCALAPPDATA": "/local"}, HOME / ".cache"),
        ("freebsd14", {}, HOME / ".cache"),
        ("darwin", {}, HOME / "Library" / "Caches"),
        ("darwin", {"XDG_CACHE_HOME": "/var/mine"}, Path("/var/mine")),
    ],
)
def test_the_cache_folder_of_a_platform(platform, environ, folder):
    assert cache_folder(environ, platform) == folder / "speechssl"


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"LOCALAPPDATA": "/local"}, Path("/local")),
        ({"XDG_CACHE_HOME": "/var/mine"}, HOME / "AppData" / "Local"),
        ({"LOCALAPPDATA": ""}, HOME / "AppData" / "Local"),
    ],
)
def test_the_cache_folder_on_windows(environ, folder):
    assert cache_folder(environ, "win32") == folder / "speechssl" / "Cache"


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_the_variable_comes_first_on_every_platform(platform):
    others = {"XDG_CACHE_HOME": "/xdg", "LOCALAPPDATA": "/local"}
    assert cache_folder({"SPEECHSSL_CACHE": "/mine", **others}, platform) == Path("/mine")
    assert cache_folder({"SPEECHSSL_CACHE": "~/mine", **others}, platform) == HOME / "mine"
    assert cache_folder({"SPEECHSSL_CACHE": "mine"}, platform) == Path.cwd() / "mine"
    assert cache_folder({"SPEECHSSL_CACHE": " ", **others}, platform) == cache_folder(
        others, platform
    )


@pytest.mark.parametrize(
    ("module", "kind", "platform", "environ"),
    [
        ("unix", "Unix", "linux", {}),
        ("unix", "Unix", "linux", {"XDG_CACHE_HOME": "/var/mine"}),
        ("macos", "MacOS", "darwin", {}),
        ("windows", "Windows", "win32", {"LOCALAPPDATA": "/local"}),
    ],
)
def test_the_places_are_those_of_platformdirs(module, kind, platform, environ, monkeypatch):
    theirs = pytest.importorskip(f"platformdirs.{module}")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "WIN_PD_OVERRIDE_LOCAL_APPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    if platform == "win32":  # without the registry, which is not here
        monkeypatch.setattr(theirs, "get_win_folder", theirs.get_win_folder_from_env_vars)
    found = getattr(theirs, kind)("speechssl", appauthor=False).user_cache_dir
    assert cache_folder(environ, platform) == Path(found.replace("\\", "/"))


@pytest.mark.parametrize("environ", [{}, {"SPEECHSSL_CACHE": "~/mine"}])
def test_without_a_home_there_is_none(environ, monkeypatch):
    def homeless(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert cache_folder(environ, "linux") is None


def test_a_subfolder_is_made_and_none_is_where_none_can_be(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "new" / "one"))
    assert cache_subfolder("speeds") == tmp_path / "new" / "one" / "speeds"
    assert list((tmp_path / "new" / "one" / "speeds").iterdir()) == []
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "file"))
    assert cache_subfolder("speeds") is None
    assert writable(None) is None


def test_the_default_is_of_this_process():
    assert cache_folder() == cache_folder(platform=sys.platform)


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "[" * 100_000, None])
def test_a_damaged_file_holds_nothing(tmp_path, text):
    path = tmp_path / "kept.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert kept_object(path) == {}


def test_what_a_file_holds(tmp_path):
    path = tmp_path / "kept.json"
    path.write_text('{"a": {"b": 1}}', encoding="utf-8")
    assert kept_object(path) == {"a": {"b": 1}}
