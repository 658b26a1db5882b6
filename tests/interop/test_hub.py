"""The hub as huggingface_hub asks for it: a server of this machine stands in its place."""

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechssl.interop.folders import read_folder
from speechssl.interop.sources import Hub, SourceOptions, open_model
from tests.interop.test_families import CASES
from tests.interop.test_folders import IDS, write_theirs

hub = pytest.importorskip("huggingface_hub")
ID = "someone/a-model"
COMMITS = {"main": "a" * 40, "v2": "b" * 40}


@dataclass
class Shop:
    """What the server offers and what it was asked."""

    folders: dict[str, Path]
    """Commit -> the files of the model."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Paths and tokens."""
    breaks_off: str = ""
    """A file of which the second half never comes."""

    def files(self) -> set[str]:
        """The names of all files that were given."""
        return {path.rsplit("/", 1)[1] for path, _ in self.asked if "/resolve/" in path}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A hub with one model in two revisions, at which the client is pointed."""
    folders = {}
    for number, commit in enumerate(COMMITS.values()):
        place = write_theirs(tmp_path / "hub" / commit, "wav2vec2-group-post", "ForCTC")
        state = load_file(place / "model.safetensors")
        save_file({n: v + number for n, v in state.items()}, place / "model.safetensors")
        (place / "checkpoint-500").mkdir()
        (place / "checkpoint-500" / "model.safetensors").write_bytes(b"a state of the training")
        (place / "pytorch_model.bin").write_bytes(b"the same weights again")
        (place / "training_args.bin").write_bytes(b"a pickle")
        folders[commit] = place
    shop = Shop(folders)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"shop": shop}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.split("/", 3)[3]
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{template}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield shop
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    shop: Shop

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.shop.asked.append((self.path, self.headers.get("Authorization")))
        path = self.path.split("?")[0]
        if match := re.fullmatch(rf"/api/models/{ID}(?:/revision/(.+))?", path):
            return self.about(match[1] or "main")
        if match := re.fullmatch(rf"/api/models/{ID}/tree/(\w+)", path):
            return self.as_json(
                [{"type": "file", "path": n, "size": s, "oid": n} for n, s in self.names(match[1])]
            )
        if match := re.fullmatch(rf"/{ID}/resolve/(\w+)/(.+)", path):
            return self.file(match[1], match[2])
        return self.fail(404, "RepoNotFound")

    def about(self, revision):
        commit = COMMITS.get(revision, revision)
        if commit not in self.shop.folders:
            return self.fail(404, "RevisionNotFound")
        names = [{"rfilename": name} for name, _ in self.names(commit)]
        return self.as_json({"id": ID, "sha": commit, "siblings": names})

    def names(self, commit):
        folder = self.shop.folders[commit]
        files = [p for p in folder.rglob("*") if p.is_file()]
        return [(str(p.relative_to(folder)), p.stat().st_size) for p in files]

    def file(self, commit, name):
        place = self.shop.folders[commit] / name
        if not place.exists():
            return self.fail(404, "EntryNotFound")
        content = place.read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{commit[:4]}{name}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            whole = name != self.shop.breaks_off
            self.wfile.write(content[start:] if whole else content[start : len(content) // 2])
        return None

    def as_json(self, data):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(json.dumps(data).encode())

    def fail(self, code, kind):
        self.send_response(code)
        self.send_header("X-Error-Code", kind)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def same(checkpoint, folder) -> bool:
    found, expected = checkpoint.model.state_dict(), read_folder(folder).model.state_dict()
    return all(torch.equal(found[name], expected[name]) for name in expected)


def test_only_what_is_read_is_fetched_and_later_it_needs_no_network(shop, tmp_path):
    cache = tmp_path / "cache"
    model = open_model(ID, SourceOptions(Hub(cache_dir=cache)))
    assert same(model, shop.folders[COMMITS["main"]])
    names = ("config", "preprocessor_config", "tokenizer_config", "vocab")
    assert {f"{name}.json" for name in names} | {"model.safetensors"} == shop.files()
    assert not list(cache.rglob("checkpoint-500"))
    shop.asked.clear()
    again = open_model(ID, SourceOptions(Hub(cache_dir=cache, offline=True)))
    assert same(again, shop.folders[COMMITS["main"]])
    assert not shop.asked


def test_a_revision_is_that_of_the_hub(shop, tmp_path):
    for revision in ("v2", COMMITS["v2"]):
        options = SourceOptions(Hub(revision=revision, cache_dir=tmp_path / revision))
        assert same(open_model(ID, options), shop.folders[COMMITS["v2"]])
    with pytest.raises(ValueError, match="has no revision 'v3' on the hub"):
        open_model(ID, SourceOptions(Hub(revision="v3", cache_dir=tmp_path / "c")))


def test_the_token_goes_along(shop, tmp_path):
    open_model(ID, SourceOptions(Hub(cache_dir=tmp_path / "c", token="hf_secret")))
    assert {token for _, token in shop.asked} == {"Bearer hf_secret"}
    with pytest.raises(FileNotFoundError, match=r"no such model on the hub .*--token"):
        open_model("someone/else", SourceOptions(Hub(cache_dir=tmp_path / "c")))


def test_a_download_that_breaks_off_is_told_and_goes_on(shop, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's own attempts
    options = SourceOptions(Hub(cache_dir=tmp_path / "cache"))
    shop.breaks_off = "model.safetensors"
    with pytest.raises(FileNotFoundError, match=r"did not give all of it .*goes on where it"):
        open_model(ID, options)
    with pytest.raises(FileNotFoundError, match=r"cannot be reached.*goes on where it stopped"):
        open_model(ID, SourceOptions(Hub(cache_dir=tmp_path / "cache", offline=True)))
    shop.breaks_off = ""
    assert same(open_model(ID, options), shop.folders[COMMITS["main"]])


def test_a_disk_that_is_full_is_no_lack_of_network(shop, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "snapshot_download", full)
    with pytest.raises(OSError, match="No space left"):
        open_model(ID, SourceOptions(Hub(cache_dir=tmp_path)))
    assert shop.asked


def test_of_an_mms_model_one_language_is_fetched(shop, tmp_path):
    place = shop.folders[COMMITS["main"]]
    for old in place.rglob("*"):
        if old.is_file():
            old.unlink()
    name = next(n for n in CASES if n.startswith("wav2vec2"))
    write_theirs(place, name, "ForCTC")
    state = load_file(place / "model.safetensors")
    languages = {"eng": IDS, "wol": {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "ë": 4}}
    (place / "vocab.json").write_text(json.dumps(languages))
    part = {n: v + 0.1 for n, v in state.items() if "adapter_layer" in n}
    for language, ids in languages.items():
        width = state["lm_head.weight"].shape[1]
        head = {
            "lm_head.weight": torch.randn(len(ids), width),
            "lm_head.bias": torch.ones(len(ids)),
        }
        save_file({**part, **head}, place / f"adapter.{language}.safetensors")
        (place / f"adapter.{language}.bin").write_bytes(b"the same again")
    model = open_model(ID, SourceOptions(Hub(cache_dir=tmp_path / "c"), language="wol"))
    assert model.tokenizer.symbols == ("<blank>", "⁇", " ", "a", "ë")
    weights = {n for n in shop.files() if not n.endswith(".json")}
    assert weights == {"model.safetensors", "adapter.wol.safetensors"}
    with pytest.raises(FileNotFoundError, match="no adapter for the language 'xyz'; it has eng, w"):
        open_model(ID, SourceOptions(Hub(cache_dir=tmp_path / "c"), language="xyz"))


def test_a_model_without_weights_that_are_read_here(shop, tmp_path):
    place = shop.folders[COMMITS["main"]]
    (place / "model.safetensors").rename(place / "flax_model.msgpack")
    (place / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor"):
        open_model(ID, SourceOptions(Hub(cache_dir=tmp_path / "c")))
