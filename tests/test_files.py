"""Files are whole or not there."""

import os
import subprocess
import sys

import pytest

from speechssl.files import replacing, writing


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with writing(path) as file:
        file.write("ngá\n")
        assert not path.exists()
    assert path.read_bytes() == "ngá\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with writing(path) as file:
            file.write("new")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_not_utf8_is_written_as_json_reads_it(tmp_path):
    with writing(tmp_path / "a.txt") as file:
        file.write("caf\udce9")
    assert (tmp_path / "a.txt").read_bytes() == rb"caf\udce9"


def test_the_longest_name(tmp_path):
    with writing(tmp_path / ("á" * 127)) as file:
        file.write("x")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "a.txt")
    with writing(tmp_path / "link") as file:
        file.write("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "a.txt").read_text() == "x"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as place:
        assert place == pipe
    with writing(pipe) as file:
        file.write("x")
    assert os.read(reader, 9) == b"x"
    os.close(reader)


def test_a_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o664)
    with writing(path) as file:
        file.write("new")
    assert path.stat().st_mode & 0o777 == 0o664


def test_the_output_of_a_shell_stays_its_own(tmp_path):
    """`evaluate --out /dev/stdout > log` must not put another file in the log's place."""
    code = "from pathlib import Path; from speechssl.files import writing\n"
    code += "with writing(Path('/dev/stdout')) as file: file.write('x')"
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, "-c", code], stdout=log, check=True)
        log.write("y")
    assert "y" in (tmp_path / "log").read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


def test_where_nothing_can_be_put_beside_a_file_it_is_written_itself(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with replacing(path) as place:
        assert place == path
