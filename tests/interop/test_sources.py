"""Where a model comes from: the hub, its cache, and its absence."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import speechssl
from speechssl.interop.sources import Hub, SourceOptions, import_model, open_model
from tests.interop.test_folders import write_theirs

hub = pytest.importorskip("huggingface_hub")
ID = "someone/a-model"


@pytest.fixture
def cache(tmp_path) -> Path:
    """The hub's cache with one model, as a download leaves it."""
    place = tmp_path / "cache" / "models--someone--a-model"
    write_theirs(place / "snapshots" / "abc123", "wav2vec2-group-post", "ForCTC")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc123")
    return tmp_path / "cache"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(hub.HfApi, "model_info", refuse)


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.usefixtures("no_network")
def test_a_model_in_the_cache_needs_no_network(cache, tmp_path, offline):
    options = SourceOptions(Hub(cache_dir=cache, offline=offline))
    proof = import_model(ID, tmp_path / "ours", options=options)
    assert proof.transcripts[0] == proof.transcripts[1]
    assert speechssl.load(tmp_path / "ours").meta["source"] == ID


@pytest.mark.usefixtures("no_network")
def test_an_interrupted_download_is_told(cache):
    next(cache.rglob("model.safetensors")).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"does not hold all of it.*goes on where it stopped"
    ):
        open_model(ID, SourceOptions(Hub(cache_dir=cache)))


@pytest.mark.usefixtures("no_network")
def test_no_network_and_no_cache_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot be reached.*hf download nobody/nothing"):
        open_model("nobody/nothing", SourceOptions(Hub(cache_dir=tmp_path)))


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        ("RevisionNotFoundError", ValueError, "has no revision 'v9'"),
        ("RepositoryNotFoundError", FileNotFoundError, "no such model on the hub .*--token"),
    ],
)
def test_what_the_hub_lacks_is_told(monkeypatch, error, kind, said):
    from huggingface_hub import errors

    made = getattr(errors, error)

    def refuse(*_, **__):
        raise made.__new__(made)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.HfApi, "model_info", refuse)
    with pytest.raises(kind, match=said):
        open_model(ID, SourceOptions(Hub(revision="v9")))


def test_the_hub_is_asked_as_the_person_said(monkeypatch, tmp_path, cache):
    asked = {}

    def info(_, name, **how):
        asked.update(name=name, **how)
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename="pytorch_model.bin")])

    def download(_, **how):
        asked.update(how)
        return next(cache.rglob("abc123"))

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.HfApi, "model_info", info)
    monkeypatch.setattr(hub, "snapshot_download", download)
    open_model(ID, SourceOptions(Hub(revision="v2", cache_dir=tmp_path, token="secret")))
    assert asked["name"] == ID
    assert (asked["revision"], asked["cache_dir"], asked["token"]) == ("v2", tmp_path, "secret")
    assert asked["local_files_only"] is False
    assert "pytorch_model.bin" in asked["allow_patterns"]


def test_a_folder_of_ours_is_not_imported(tiny_models, tmp_path):
    with pytest.raises(ValueError, match="model folder of speechssl already"):
        import_model(str(tiny_models["ctc"]), tmp_path / "x")


@pytest.mark.parametrize("holds", ["notes.txt", "best/config.json", "pytorch_model.bin"])
def test_nothing_else_is_replaced_by_a_model(holds, tmp_path):
    """A run, a model of others, somebody's files: a config.json is in all of them."""
    source = write_theirs(tmp_path / "theirs", "wav2vec2-group-post", "ForCTC")
    out = tmp_path / "out"
    import_model(str(source), out)
    import_model(str(source), out)  # again, over itself
    (out / holds).parent.mkdir(exist_ok=True)
    (out / holds).write_text("mine")
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(ValueError, match=rf"holds {holds.split('/')[0]} too: name another place"):
        import_model(str(source), out)
    assert sorted(path.name for path in out.iterdir()) == before
    with pytest.raises(ValueError, match="name another place"):
        import_model(str(source), source)  # the source itself


@pytest.mark.parametrize("name", ["no-such-folder", "runs/no/such", "./here/there"])
def test_a_path_that_is_none_is_no_hub_id(name, monkeypatch):
    monkeypatch.setattr(hub.HfApi, "model_info", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(FileNotFoundError, match="There is no model folder"):
        open_model(name)


def test_a_config_that_is_no_json_is_named(cache):
    place = next(cache.rglob("config.json"))
    place.write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        open_model(place.parent)
    place.write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="must hold a JSON object"):
        open_model(place.parent)
