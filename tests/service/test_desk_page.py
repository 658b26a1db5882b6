"""The page in a real browser: Chromium without a window, one for the whole file."""

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("playwright")

import uvicorn
from playwright import sync_api as playwright

from speechssl import audio
from speechssl.caches import VARIABLE
from speechssl.checkpoint import load_model
from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment, SpokenWord
from speechssl.desk.queue import QueueItem, write_queue
from speechssl.service.app import create_app
from speechssl.service.config import ServiceConfig
from speechssl.service.desk_learning import Learning
from speechssl.service.desk_texts import timed_words
from tests.service.desk_samples import add_recording, tone
from tests.service.test_desk_work import CHANGED, fake_command

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.extras,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
]
ARABIC = ["ذهب", "الولد", "إلى", "السوق", "واشترى", "خبزا", "طازجا"]
LAG_S = 0.05
playwright.expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    for name in ("follow", "edit", "keys", "kill", "two", "one", "merge", "write"):
        add_recording(folder, f"{name}.wav", 13.0, rate=8000)
    add_recording(folder, "arabic.flac", 9.0, rate=8000, words=ARABIC)
    add_recording(folder, "new.wav", 3.0, text=False)
    add_recording(folder, "three-hours.wav", 3 * 3600.0, rate=3000)
    path = folder / "keys.corrections.json"
    last = corrections.read(path).segments[-1]
    item = QueueItem(path.name, last.id, folder / "keys.wav", last.start_s, last.end_s, "x", 0.5)
    write_queue(folder, [item])
    return folder


@pytest.fixture(scope="module")
def address(desk, tiny_models, tmp_path_factory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(tmp_path_factory.mktemp("cache")))
        waits = "print('ready', flush=True)\ntime.sleep(60)"
        patch.setattr(Learning, "_command", fake_command(waits))
        app = create_app(ServiceConfig("tiny", desk=desk), load_model(tiny_models["ctc"]))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://localhost:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        made = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield made
        made.close()


@pytest.fixture
def context(browser, address):
    """Tabs of one person. Nothing may go wrong in them, and nothing be asked of another host."""
    made = browser.new_context(viewport={"width": 1200, "height": 800}, base_url=address)
    made.set_default_timeout(20_000)
    wrong: list[str] = []

    def listen(page):
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda r: r.url.startswith((address, "blob:", "data:")) or wrong.append(r.url),
        )
        page.on("console", lambda m: wrong.append(m.text) if "Security Policy" in m.text else None)

    made.on("page", listen)
    yield made
    made.close()
    assert not wrong


@pytest.fixture
def numbers(address):
    import httpx

    rows = httpx.get(f"{address}/desk/recordings", timeout=60).json()["recordings"]
    return {row["name"].rpartition(".")[0]: row["id"] for row in rows}


def visit(context, numbers, name: str):
    page = context.new_page()
    page.goto(f"/#{numbers[name]}")
    page.wait_for_selector(".segment")
    return page


def saved(desk: Path, name: str, holds) -> tuple[CorrectedSegment, ...]:
    """The segments of a file when they are as `holds` wants them."""
    for _ in range(400):
        segments = corrections.read(desk / f"{name}.corrections.json").segments
        if holds(segments):
            return segments
        time.sleep(0.05)
    raise AssertionError([segment.text for segment in segments])


def test_words_follow_the_sound(context, numbers):
    page = visit(context, numbers, "follow")
    page.evaluate(
        """() => {
          const audio = document.getElementById("audio");
          window.words = [];
          let [before, now] = [0, 0];
          const frame = () => {
            [before, now] = [now, audio.currentTime];
            requestAnimationFrame(frame);
          };
          frame();
          new MutationObserver((changes) => {
            for (const { target } of changes) {
              if (!target.classList.contains("said")) continue;
              const segment = Number(target.closest("li").dataset.index);
              const start = segment * 4 + 0.5 + 0.45 * Number(target.dataset.word);
              window.words.push({ start, lag: audio.currentTime - start, before });
            }
          }).observe(document.getElementById("segments"),
                     { subtree: true, attributeFilter: ["class"] });
        }"""
    )
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("() => window.words.length >= 5")
    page.keyboard.press("Space")
    words = page.evaluate("() => window.words")
    assert [round(w["start"], 2) for w in words[:5]] == [0.5, 0.95, 1.4, 1.85, 2.3]
    for word in words:  # as soon as the screen shows something new, and never before
        assert word["lag"] >= -0.001
        assert word["lag"] <= LAG_S or word["before"] < word["start"] + 0.005
    before = page.evaluate("() => document.getElementById('audio').currentTime")
    page.keyboard.press("ArrowLeft")
    after = page.evaluate("() => document.getElementById('audio').currentTime")
    assert after == pytest.approx(max(0, before - 1), abs=0.2)
    page.keyboard.press("-")
    assert page.evaluate("() => document.getElementById('audio').playbackRate") == 0.9


def test_segments_are_corrected_split_joined_and_undone(context, numbers, desk):
    page = visit(context, numbers, "edit")
    page.get_by_label("You").fill("ada")
    page.get_by_label("You").press("Enter")
    row = page.locator(".segment").first
    row.locator("[data-word='1']").dblclick()
    field = page.get_by_role("textbox", name="Text of segment 1", exact=True)
    assert field.evaluate("f => f.selectionStart") == field.input_value().index(" ") + 1
    field.fill("wó ŋ́ga  ya")
    field.press("Enter")
    first = saved(desk, "edit", lambda s: s[0].text == "wó ŋ́ga ya")[0]
    assert first.editor == "ada"
    assert first.time
    assert first.hypothesis != first.text
    playwright.expect(page.locator(".was")).to_be_visible()
    page.keyboard.press("Enter")
    field.evaluate("f => f.setSelectionRange(3, 3)")
    field.press("Shift+Enter")
    parts = saved(desk, "edit", lambda s: len(s) == 4)
    assert [part.text for part in parts[:2]] == ["wó", "ŋ́ga ya"]
    assert parts[0].end_s == parts[1].start_s
    assert sum(len(part.words) for part in parts[:2]) == 7
    page.keyboard.press("Escape")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    back = saved(desk, "edit", lambda s: len(s) == 3 and s[0].text == s[0].hypothesis)
    page.keyboard.press("Control+Shift+z")
    saved(desk, "edit", lambda s: s[0].text == "wó ŋ́ga ya")
    page.keyboard.press("Control+j")
    joined = saved(desk, "edit", lambda s: len(s) == 2)[0]
    assert joined.end_s == back[1].end_s
    assert len(joined.words) == 14
    speaker = page.get_by_label("Speaker")
    speaker.fill("kouarata")
    speaker.press("Tab")
    page.get_by_label("to", exact=True).fill("6.5")
    page.get_by_label("to", exact=True).press("Tab")
    page.get_by_role("button", name="Delete").focus()
    made = saved(desk, "edit", lambda s: s[0].speaker == "kouarata" and s[0].end_s == 6.5)
    assert made[1].speaker == "abiayi"


def test_keys_and_names_for_whoever_does_not_see_or_point(context, numbers, desk):
    page = visit(context, numbers, "keys")
    page.keyboard.press("d")
    playwright.expect(page.locator("#live")).to_contain_text("60 percent")
    assert page.locator(":focus").get_attribute("aria-label") == "Segment 1"
    page.keyboard.press("d")
    playwright.expect(page.locator("#live")).to_contain_text("20 percent")
    marked = page.locator(".segment mark.said")
    assert "very doubtful" in marked.get_attribute("aria-description")
    style = marked.evaluate("m => getComputedStyle(m).textDecorationStyle")
    assert style == "wavy"  # not by colour alone
    page.keyboard.press("Shift+D")
    playwright.expect(page.locator("#live")).to_contain_text("60 percent")
    page.keyboard.press("Control+Enter")
    checked = saved(desk, "keys", lambda s: s[0].checked)
    assert not checked[1].checked
    assert page.locator(":focus").get_attribute("aria-label") == "Segment 2"
    assert page.locator(".segment").first.locator("mark").count() == 0  # checked: no doubt is left
    for role in ("banner", "navigation", "main", "tablist", "tabpanel", "toolbar", "list"):
        assert page.get_by_role(role).count(), role
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, canvas[role]")]
          .filter((e) => e.type !== "file" && !e.labels?.length && !e.ariaLabel
                         && !e.textContent.trim())
          .map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Recordings").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Queue").get_attribute("aria-selected") == "true"
    page.locator("#queue li button").click()
    playwright.expect(page.locator(".segment.selected")).to_have_attribute("data-id", "s00002")
    assert page.evaluate("() => document.getElementById('audio').currentTime") == 8.5


def test_a_killed_tab_loses_nothing(context, numbers, desk):
    page = visit(context, numbers, "kill")
    page.route("**/corrections", lambda route: route.abort())  # the service is away
    page.locator(".segment .text").first.dblclick()
    page.keyboard.press("Control+A")
    page.keyboard.type("kept")
    page.locator("#save-state[data-state=failed]").wait_for()
    page.keyboard.type(" too")
    crashed = threading.Event()
    page.on("crash", lambda _: crashed.set())
    with pytest.raises(playwright.Error):
        page.goto("chrome://crash")
    again = visit(context, numbers, "kill")
    playwright.expect(again.locator(".segment .text").first).to_have_text("kept too")
    saved(desk, "kill", lambda s: s[0].text == "kept too")
    playwright.expect(again.locator("#save-state")).to_have_text("Saved")
    assert again.evaluate("() => Object.keys(localStorage).join()") == ""


def test_who_writes_goes_on_writing_while_versions_are_joined(context, numbers, desk):
    ada, ben = visit(context, numbers, "write"), visit(context, numbers, "write")
    change(ada, "by ada", 1)
    saved(desk, "write", lambda s: s[1].text == "by ada")
    ben.locator(".segment .text").first.dblclick()
    ben.keyboard.press("Control+A")
    ben.keyboard.type("one")
    playwright.expect(ben.locator(".segment .text").nth(1)).to_have_text("by ada")
    ben.keyboard.type(" two")
    both = saved(desk, "write", lambda s: s[0].text == "one two")
    assert both[1].text == "by ada"


def change(page, text: str, index: int = 0) -> None:
    page.locator(".segment .text").nth(index).dblclick()
    page.keyboard.press("Control+A")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def test_two_people_in_different_places_are_joined(context, numbers, desk):
    ada, ben = visit(context, numbers, "merge"), visit(context, numbers, "merge")
    change(ada, "by ada", 0)
    saved(desk, "merge", lambda s: s[0].text == "by ada")
    ben.locator(".segment input[type=checkbox]").first.check()  # of the same, another field
    playwright.expect(ben.locator(".segment .text").first).to_have_text("by ada")
    change(ben, "by ben", 1)
    both = saved(desk, "merge", lambda s: s[1].text == "by ben")
    assert (both[0].text, both[0].checked) == ("by ada", True)
    playwright.expect(ben.locator(".segment .text").first).to_have_text("by ada")


@pytest.mark.parametrize(("name", "choice"), [("two", "Yours"), ("one", "ada, saved already")])
def test_two_people_in_one_place_are_asked(context, numbers, desk, name, choice):
    ada, ben = visit(context, numbers, name), visit(context, numbers, name)
    ada.get_by_label("You").fill("ada")
    ada.get_by_label("You").press("Enter")
    change(ada, "by ada")
    saved(desk, name, lambda s: s[0].text == "by ada")
    change(ben, "by ben")
    dialog = ben.get_by_role("dialog", name="Two people changed the same place")
    dialog.wait_for()
    assert "by ada" in dialog.inner_text()
    assert "by ben" in dialog.inner_text()
    assert "ada, saved already" in dialog.inner_text()
    assert ben.get_by_role("button", name="Keep what is chosen").is_disabled()
    ben.keyboard.press("Escape")
    assert corrections.read(desk / f"{name}.corrections.json").segments[0].text == "by ada"
    assert "by ben" in ben.evaluate("() => Object.values(localStorage).join()")
    ben.get_by_role("button", name="Two versions: choose").click()
    dialog.locator("label", has_text=choice).click()
    ben.get_by_role("button", name="Keep what is chosen").click()
    kept = "by ben" if choice == "Yours" else "by ada"
    saved(desk, name, lambda s: s[0].text == kept)
    playwright.expect(ben.locator(".segment .text").first).to_have_text(kept)
    playwright.expect(ben.locator("#save-state")).to_have_text("Saved")


def test_three_hours_are_a_few_rows(context, numbers):
    page = visit(context, numbers, "three-hours")
    assert page.locator(".segment").count() < 60
    assert page.locator(".segment").first.get_attribute("aria-setsize") == "2700"
    page.locator(f"body[data-drawn='{numbers['three-hours']}']").wait_for()
    page.locator("#scroller").evaluate("s => s.scrollTo(0, s.scrollHeight)")
    page.locator(".segment[data-index='2699']").wait_for()
    assert page.locator(".segment").count() < 60
    page.locator("#overview").click(position={"x": 450, "y": 10})  # the middle
    time_s = page.evaluate("() => document.getElementById('audio').currentTime")
    assert 4000 < time_s < 6800
    assert page.locator("#clock").inner_text().startswith("1:")


def test_sound_is_dropped_transcribed_and_learned_from(context, desk, tmp_path):
    page = context.new_page()
    page.goto("/")
    audio.write(tmp_path / "dropped one.wav", tone(2.0), 16000)
    page.locator("#files").set_input_files(tmp_path / "dropped one.wav")
    page.get_by_role("button", name="Transcribe").click()
    page.wait_for_selector(".segment")
    assert corrections.read(desk / "dropped_one.corrections.json").segments
    (tmp_path / "no sound.wav").write_text("hello", encoding="utf-8")
    page.locator("#files").set_input_files(tmp_path / "no sound.wav")
    playwright.expect(page.get_by_role("alert").first).to_contain_text("no_sound.wav")
    page.get_by_role("tab", name="Learn").click()
    page.get_by_role("button", name="Learn", exact=True).click()
    playwright.expect(page.locator("#learn .state")).to_contain_text("segments")  # too few yet
    path = desk / "three-hours.corrections.json"
    made = corrections.read(path)
    rows = [corrections.checked(s, s.text, "ada") for s in made.segments[:40]]
    fresh = corrections.Corrections(made.audio, "", (*rows, *made.segments[40:]))
    corrections.write(path, fresh, made.digest)
    page.get_by_role("button", name="Learn", exact=True).click()
    playwright.expect(page.locator("#learn dl")).to_contain_text("50.0 %")
    page.get_by_role("button", name="Stop").click()
    playwright.expect(page.locator("#learn .state")).to_contain_text("Stopped;")
    with page.expect_download() as download:
        page.get_by_label("Download").select_option("srt")
    assert download.value.suggested_filename == "dropped_one.srt"


def test_text_runs_in_its_own_direction(context, numbers):
    page = visit(context, numbers, "arabic")
    text = page.locator(".segment .text").first
    assert text.evaluate("t => getComputedStyle(t).direction") == "rtl"
    text.dblclick()
    field = page.get_by_role("textbox", name="Text of segment 1", exact=True)
    assert field.evaluate("f => getComputedStyle(f).direction") == "rtl"
    colors = []
    for _ in range(2):
        colors.append(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        page.get_by_role("button", name="Light or dark").click()
    bright = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in colors]
    assert bright[0] > 600 > 200 > bright[1]


def test_times_of_words_are_those_of_the_downloads(context):
    """page/words.js and desk_texts.py say the same."""
    page = context.new_page()
    page.goto("/")
    words = tuple(SpokenWord(w, k + 1.0, k + 1.5, 0.5) for k, w in enumerate("abc"))
    cases = [CorrectedSegment("s", 0.5, 4.0, "a b c", text, 0.5, words) for text, _ in CHANGED]
    made = corrections.Corrections(Path("/a.wav"), "", tuple(cases))
    rows = corrections.to_json(made, Path("/"))["segments"]
    found = page.evaluate(
        """async (rows) => {
          const { timedWords } = await import("/page/words.js");
          return rows.map((row) => timedWords(row).map(
            (w) => [w.text, w.start_s, w.end_s, w.confidence]));
        }""",
        rows,
    )
    expected = [[[w.text, w.start_s, w.end_s, w.confidence] for w in timed_words(c)] for c in cases]
    assert json.loads(json.dumps(found)) == expected
