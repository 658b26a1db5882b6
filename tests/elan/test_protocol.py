"""A recogniser of ELAN by its protocol: parameters in, progress, tiers and a result out."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from speechssl.annotations import Segment
from speechssl.cli import main
from speechssl.elan import install, recognizer
from speechssl.elan.protocol import Reporter, file_of, read_parameters, read_tier, tier_text

NAMESPACE = "{http://www.clarin.eu/cmd/}"


def parameters(**given: object) -> bytes:
    """As ELAN writes them."""
    lines = "".join(
        f'<param name="{name}">{str(value).replace("&", "&amp;")}</param>\n'
        for name, value in given.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<PARAM xmlns:xsi="http://www.w3.org/2001/XMLSchema'
        '-instance" xsi:noNamespaceSchemaLocation="file:avatech-call.xsd">\n'
        '<param name="InvocationContext">x 2014-07-31 14:23:09+0200</param>\n'
        f"{lines}</PARAM>\n"
    ).encode()


def fake(_: Path, spans, tell) -> list[Segment]:
    """A recogniser that needs no model."""
    for share in (0.5, 0.25, 1.0):
        tell(share)
    if spans:
        return [Segment(s.start_s, s.end_s, f"{s.text}!") for s in spans]
    words = (Segment(0.1, 0.5, "a"), Segment(0.5, 1.0, "<b>"))
    return [Segment(0.1, 1.0, "a <b>", words=words)]


def run(monkeypatch, data: bytes, recognise=fake) -> tuple[int, list[str]]:
    monkeypatch.setattr(recognizer, "recogniser", lambda _: recognise)
    out = io.StringIO()
    code = recognizer.main(["--model", "m", "--name", "My model"], io.BytesIO(data), out)
    return code, out.getvalue().splitlines()


def spans(path: Path) -> list[tuple[str, str, str | None]]:
    """As ELAN's reader takes them."""
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    assert root.tag == "TIER"
    assert len(root.get("columns").split()) == 1  # ELAN makes a tier of each word
    return [(s.get("start"), s.get("end"), s.find("v").text) for s in root.iter("span")]


def test_a_whole_recording(monkeypatch, tmp_path, record):
    audio = record("a & b.wav", 1.0)
    tier, words = tmp_path / "é.xml", tmp_path / "words.xml"
    code, lines = run(monkeypatch, parameters(audio=audio, output_tier=tier, output_words=words))
    assert (code, lines[-1]) == (0, "RESULT: DONE.")
    shares = [float(line.split()[1]) for line in lines if line.startswith("PROGRESS: ")]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert all(re.match(r"(PROGRESS: \d\.\d\d|INFO: |RESULT: )", line) for line in lines)
    assert spans(tier) == [("100", "1000", "a <b>")]
    assert spans(words) == [("100", "500", "a"), ("500", "1000", "<b>")]


ELAN_TIER = """<?xml version="1.0" encoding="UTF-8"?>
<TIER xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="file:avatech-tier.xsd" columns="tx">
\t<span start="1.5" end="2.25"><v>a & b <c></v></span>
\t<span start="0.25" end="1.0"><v></v></span>
</TIER>
"""  # noqa: E501


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tier.xml", ELAN_TIER),
        ("tier.csv", '"#starttime";"#endtime";"tier_1"\n1.5;2.25;"a & b <c>"\n0.25;1.0;""\n'),
    ],
)
def test_the_segments_of_a_tier(monkeypatch, tmp_path, record, name, content):
    """ELAN escapes nothing in the texts of the tier that it writes."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_tier(tmp_path / name) == [Segment(0.25, 1.0, ""), Segment(1.5, 2.25, "a & b <c>")]
    out = tmp_path / "out.xml"
    data = parameters(audio=record("a.wav", 3.0), input_tier=tmp_path / name, output_tier=out)
    code, lines = run(monkeypatch, data)
    assert (code, lines[-1]) == (0, "RESULT: DONE.")
    assert spans(out) == [("250", "1000", "!"), ("1500", "2250", "a & b <c>!")]


def test_csv_as_elan_reads_it():
    text = tier_text([Segment(0.1, 1.25, "a; b")], "my tier", csv=True)
    assert text == '"#starttime";"#endtime";"my_tier"\n100;1250;a, b\n'


def test_the_video_is_taken_where_there_is_no_sound_file(monkeypatch, tmp_path, record):
    seen = []
    data = parameters(audio="", video=record("v.mp4.wav", 1.0), output_tier=tmp_path / "o.csv")
    code, _ = run(monkeypatch, data, lambda audio, *_: seen.append(audio.name) or [])
    assert (code, seen) == (0, ["v.mp4.wav"])
    assert (tmp_path / "o.csv").read_text(
        encoding="utf-8"
    ) == '"#starttime";"#endtime";"My_model"\n'


def broken(*_):
    raise ValueError("The model is\nbroken.")


@pytest.mark.parametrize(
    ("given", "recognise", "words"),
    [
        (None, fake, "There are no parameters on standard input"),
        ({}, fake, "No recording was chosen"),
        ({"audio": "AUDIO"}, fake, "No file was chosen for the output tier"),
        ({"audio": "gone.wav", "output_tier": "OUT"}, fake, "There is no recording gone.wav"),
        ({"audio": "AUDIO", "output_tier": "OUT", "input_tier": "EMPTY"}, fake, "has no segment"),
        ({"audio": "AUDIO", "output_tier": "OUT", "input_tier": "gone"}, fake, "No such file"),
        ({"audio": "AUDIO", "output_tier": "OUT"}, broken, "ERROR: The model is broken."),
    ],
)
def test_what_fails_says_why_before_its_result(
    monkeypatch, tmp_path, record, given, recognise, words
):
    (tmp_path / "empty.xml").write_text("<TIER/>", encoding="utf-8")
    known = {
        "AUDIO": record("a.wav", 1.0),
        "OUT": tmp_path / "o.xml",
        "EMPTY": tmp_path / "empty.xml",
    }
    data = b"" if given is None else parameters(**{k: known.get(v, v) for k, v in given.items()})
    code, lines = run(monkeypatch, data, recognise)
    assert (code, lines[-1]) == (1, "RESULT: FAILED.")
    assert words in lines[-2]
    assert not (tmp_path / "o.xml").exists()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("///home/x/a b.wav", "/home/x/a b.wav"),
        ("file:///home/x.wav", "/home/x.wav"),
        ("/home/x.wav", "/home/x.wav"),
        ("///C:/x/a.wav", "C:/x/a.wav"),
        ("C:\\x\\a.wav", "C:\\x\\a.wav"),
    ],
)
def test_paths_as_elan_writes_them(value, path):
    assert file_of(value) == Path(path)


def test_parameters_in_another_encoding_than_they_say(monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda _=True: "cp1252")
    data = parameters(audio="C:\\niño\\a.wav", words="").decode().encode("cp1252")
    found = read_parameters(data)
    assert found["audio"] == "C:\\niño\\a.wav"
    assert "words" not in found


def test_progress_never_goes_back():
    out = io.StringIO()
    report = Reporter(out)
    for share in (0.1, 0.5, 0.3, 2.0):
        report.progress(share)
    assert out.getvalue().split()[1::2] == ["0.10", "0.50", "0.50", "1.00"]


# ---- what is installed ---------------------------------------------------------------------------


def test_the_files_that_elan_looks_for(tmp_path):
    made = install.install("/m o/del", tmp_path / "ext", "Mboshi é", python="/py thon")
    assert made.folder == tmp_path / "ext" / "speechssl-Mboshi_é"
    root = ElementTree.parse(made.folder / "recognizer.cmdi").getroot()
    assert root.tag == f"{NAMESPACE}CMD"
    (found,) = root.iter(f"{NAMESPACE}RECOGNIZER")
    run_it = found.find(f"{NAMESPACE}recognizer")
    assert run_it.get("recognizerType") == "local"
    assert run_it.get("info") == "speechssl Mboshi é"
    for system, suffix in (("Linux", "sh"), ("Mac", "sh"), ("Win", "bat")):
        command = run_it.get(f"run{system}")
        assert command.split() == [command]  # ELAN splits it at spaces
        assert command.endswith(suffix)
        assert (made.folder / re.split(r"[\\/]", command)[-1]).is_file()
    assert (made.folder / found.find(f"{NAMESPACE}documentation").text).is_file()
    inputs = {each.text: each.get("type") for each in found.iter(f"{NAMESPACE}input")}
    outputs = {each.text: each.get("optional") for each in found.iter(f"{NAMESPACE}output")}
    assert inputs == {"audio": "audio", "video": "video", "input_tier": "tier"}
    assert outputs == {"output_tier": "false", "output_words": "true"}
    assert os.access(made.folder / "recognize.sh", os.X_OK)
    batch = (made.folder / "recognize.bat").read_bytes().decode()
    assert '"/py thon" -m speechssl.elan.recognizer --model "/m o/del"' in batch
    assert batch.count("\r\n") == batch.count("\n")
    assert '"/100%%/x"' in install.batch_launcher("p", "/100%/x", "n")


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_the_launcher_gives_the_model_as_it_is(tmp_path):
    """A program in place of the interpreter says how it was called."""
    python = tmp_path / "py thon"
    python.write_text(
        f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n", encoding="utf-8"
    )
    python.chmod(0o755)
    model = '/it\'s "a" $HOME/`m`'
    made = install.install(model, tmp_path / "ext", "x y", python=str(python))
    said = subprocess.run(
        ["./recognize.sh"], cwd=made.folder, capture_output=True, check=True, encoding="utf-8"
    )
    assert json.loads(said.stdout) == [
        *("-m", "speechssl.elan.recognizer", "--model", model, "--name", "x_y"),
    ]


def test_the_command_and_the_program_with_a_model(
    tiny_models, tmp_path, record, monkeypatch, capsys
):
    """As ELAN does it, in this process: the launcher's arguments, the whole and a tier."""
    monkeypatch.chdir(tiny_models["ctc"].parent)
    assert main(["elan-install", "ctc", str(tmp_path / "ext"), "--name", "noise"]) == 0
    assert "ELAN shows it as 'speechssl noise'" in capsys.readouterr().out
    launcher = (tmp_path / "ext" / "speechssl-noise" / "recognize.sh").read_text(encoding="utf-8")
    model = re.search(r"--model (\S+)", launcher)[1]
    assert model == str(tiny_models["ctc"])
    (tmp_path / "in.xml").write_text(ELAN_TIER, encoding="utf-8")
    audio, out = record("a.wav", 3.0), tmp_path / "out.xml"
    for more in ({}, {"input_tier": tmp_path / "in.xml"}):
        said = io.StringIO()
        data = parameters(audio=audio, output_tier=out, output_words=tmp_path / "w.xml", **more)
        assert recognizer.main(["--model", model], io.BytesIO(data), said) == 0, said.getvalue()
        assert said.getvalue().endswith("\nRESULT: DONE.\n")
        found = spans(out)
        assert found
    assert [(start, end) for start, end, _ in found] == [("250", "1000"), ("1500", "2250")]
    for start, end, text in spans(tmp_path / "w.xml"):
        inside = [(a, b, t) for a, b, t in found if int(a) <= int(start) and int(end) <= int(b)]
        assert inside
        assert text in inside[0][2]


def test_what_is_no_model_to_transcribe_with_is_refused(tiny_models, tmp_path, capsys):
    assert main(["elan-install", str(tiny_models["speech"]), str(tmp_path / "ext")]) == 2
    assert not (tmp_path / "ext").exists()
    assert main(["elan-install", str(tmp_path / "gone"), str(tmp_path / "ext")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
