"""Writes what ELAN needs to run a model: a folder with a CMDI file, launchers, and a page of help.

ELAN looks for it in its folder of extensions. It splits the command at spaces and runs it in the
folder of the CMDI file, so that the command is a bare file name there.
"""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from speechssl.annotations.xml_text import attribute, content
from speechssl.elan.recognizer import AUDIO, INPUT_TIER, OUTPUT_TIER, OUTPUT_WORDS, VIDEO
from speechssl.files import replacing

CMDI, SHELL, BATCH, HELP = "recognizer.cmdi", "recognize.sh", "recognize.bat", "recognizer.html"


@dataclass(frozen=True)
class Installed:
    """Where a recogniser lies."""

    folder: Path
    name: str
    """As ELAN shows it."""


def install(model: str, place: Path, name: str, python: str = sys.executable) -> Installed:
    """Write the folder of a recogniser into `place`, ELAN's folder of extensions.

    Args:
        model: as the launcher gives it to the recogniser: an absolute path, or a name that holds
            wherever it is started.
        place: the folder of extensions; made where it is not there.
        name: of the recogniser in ELAN and of its tiers; a second one of the same name replaces it.
        python: the interpreter that has this package.
    """
    identifier = re.sub(r"\W+", "_", name).strip("_") or "model"
    folder = place / f"speechssl-{identifier}"
    files = {
        CMDI: cmdi(name, identifier),
        HELP: help_page(name, model),
        SHELL: shell_launcher(python, model, identifier),
        BATCH: batch_launcher(python, model, identifier),
    }
    for file_name, text in files.items():
        with replacing(folder / file_name) as part:
            part.write_bytes(text.encode("utf-8"))
    (folder / SHELL).chmod(0o755)
    return Installed(folder, f"speechssl {name}")


def cmdi(name: str, identifier: str) -> str:
    """The description of the recogniser: its command for each system, and its parameters."""
    shown = attribute(f"speechssl {name}")
    inputs = [
        _file("input", "audio", AUDIO, "Recording (sound)", "audio/x-wav", optional=True),
        _file(
            "input",
            "video",
            VIDEO,
            "Recording (video), where there is no sound file",
            "video/mp4 video/quicktime video/mpeg",
            optional=True,
        ),
        _file(
            "input",
            "tier",
            INPUT_TIER,
            "Segments to transcribe; none: the whole recording",
            "text/xml",
            optional=True,
        ),
    ]
    outputs = [
        _file("output", "tier", OUTPUT_TIER, "Tier of texts", "text/xml", optional=False),
        _file(
            "output",
            "tier",
            OUTPUT_WORDS,
            "Tier of words with their times",
            "text/xml",
            optional=True,
        ),
    ]
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<CMD CMDVersion="1.1" xmlns="http://www.clarin.eu/cmd/"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="http://www.clarin.eu/cmd/ http://catalog.clarin.eu/ds/ComponentRegistry/rest/registry/profiles/clarin.eu:cr1:p_1430905751617/xsd">
    <Header></Header>
    <Resources>
        <ResourceProxyList></ResourceProxyList>
        <JournalFileProxyList></JournalFileProxyList>
        <ResourceRelationList></ResourceRelationList>
    </Resources>
    <Components>
        <RECOGNIZER>
            <recognizer recognizerType="local" runLinux="./{SHELL}" runMac="./{SHELL}"
                runWin=".\\{BATCH}" info={shown}>speechssl_{identifier}</recognizer>
            <documentation>{HELP}</documentation>
{"".join(inputs + outputs)}        </RECOGNIZER>
    </Components>
</CMD>
"""


def _file(
    direction: str, kind: str, key: str, info: str, mime_types: str, *, optional: bool
) -> str:
    return (
        f'            <{direction} level="basic" type="{kind}" optional="{str(optional).lower()}"\n'
        f'                mimetypes="{mime_types}"\n'
        f"                info={attribute(info)}>{key}</{direction}>\n"
    )


def shell_launcher(python: str, model: str, name: str) -> str:
    """For Linux and macOS, where ELAN starts programs with a bare environment."""
    command = shlex.join(
        [python, "-m", "speechssl.elan.recognizer", "--model", model, "--name", name]
    )
    return f"#!/bin/sh\nexport PYTHONIOENCODING=utf-8 PYTHONUTF8=1\nexec {command}\n"


def batch_launcher(python: str, model: str, name: str) -> str:
    """For Windows; a per cent sign in a path is doubled, and paths may have any letters."""
    quoted = [f'"{part}"'.replace("%", "%%") for part in (python, model, name)]
    lines = [
        "@echo off",
        "chcp 65001 >nul",
        "set PYTHONIOENCODING=utf-8",
        "set PYTHONUTF8=1",
        f"{quoted[0]} -m speechssl.elan.recognizer --model {quoted[1]} --name {quoted[2]}",
    ]
    return "\r\n".join(lines) + "\r\n"


def help_page(name: str, model: str) -> str:
    """What ELAN shows of the recogniser."""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>speechssl {content(name)}</title></head><body>
<h1>speechssl {content(name)}</h1>
<p>Transcribes the recording, or each segment of a tier, with the model {content(model)}.</p>
<ol>
<li>Recording: the sound file, or the video where there is none.</li>
<li>Segments: a tier with segments, each of which gets a text; none for the whole recording, which
is then cut at pauses.</li>
<li>Tiers: give a file name for the texts, and one for the words if you want them. Start, and then
create the tiers from them.</li>
</ol>
<p>The texts are hypotheses of a machine: check them.</p>
</body></html>
"""
