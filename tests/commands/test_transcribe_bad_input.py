"""What `transcribe` says of input that cannot be used: one sentence each, and nothing is lost."""

import errno

import pytest

from speechssl import files
from speechssl.cli import main
from tests.audio.test_media import make


@pytest.fixture
def model(tiny_models) -> str:
    return str(tiny_models["ctc"])


@pytest.mark.extras
@pytest.mark.parametrize(
    ("share", "flags"), [(0.1, {}), (0.9, {}), (0.02, {"movflags": "faststart"})]
)
def test_an_m4a_that_is_cut_off(share, flags, model, tmp_path, capsys):
    """Without its index nothing of it can be read."""
    path = make(tmp_path / "talk.m4a", "aac", **flags)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert main(["transcribe", model, str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"speechssl: {path} cannot be opened as sound (it is MPEG-4")
    assert "damaged or cut off" in line


@pytest.mark.extras
def test_of_an_m4a_that_is_cut_off_what_is_there_is_used(model, tmp_path, capsys):
    path = make(tmp_path / "talk.m4a", "aac", movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert main(["transcribe", model, str(path), "--out", str(tmp_path / "out")]) == 0
    assert f"{path} is cut off or damaged: " in capsys.readouterr().err
    assert (tmp_path / "out" / "talk.txt").is_file()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
@pytest.mark.parametrize("form", ["txt", "srt", "json"])
def test_a_folder_that_cannot_be_written_to_any_more(
    number, form, model, record, tmp_path, capsys, monkeypatch
):
    """The transcripts that are there stay, the others are named."""
    paths = [str(record(f"{name}.wav", 0.3)) for name in "abc"]
    replace, made = files.replace, []

    def fails_later(*args):
        if made:
            raise OSError(number, "not any more", str(args[-1]))
        made.append(args)
        replace(*args)

    monkeypatch.setattr(files, "replace", fails_later)
    out = tmp_path / "out"
    code = main(["transcribe", model, *paths, "--out", str(out), "--format", form])
    said = capsys.readouterr().err
    assert code == (1 if number == errno.EROFS else 2)  # the person has no right to write there
    assert "Traceback" not in said
    assert [path.name for path in out.iterdir()] == [f"a.{form}"]
    assert "b.wav" in said or str(out) in said
    assert len(said.splitlines()[-1]) > 10


@pytest.mark.parametrize("words", ["q9ß\n", "abc\nx-y z\n", "日本\tabc\n", "\n\n", "\tx\n"])
def test_hotwords_that_the_model_cannot_spell(words, model, record, tmp_path, capsys):
    (tmp_path / "names.txt").write_text(words, "utf-8")
    wave = str(record("a.wav", 0.3))
    code = main(["transcribe", model, wave, "--hotwords", str(tmp_path / "names.txt")])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    if code == 2:
        assert len(err.splitlines()) == 1
        assert out == ""
    else:
        assert code == 0
        assert any(word.split("\t")[0] in err for word in words.split("\n") if word != "abc")
