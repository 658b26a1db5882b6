"""Progress: what is said, when, and how well the time left is guessed."""

import io

import pytest

from speechssl.commands.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def run(sizes, seconds, out, **options):
    clock = Clock()
    progress = Progress(sizes, out=out, clock=clock, **options)

    def results():
        for number, took in enumerate(seconds):
            clock.now += took
            yield number

    assert list(progress.over(results())) == list(range(len(seconds)))
    return out.getvalue()


def test_a_log_gets_a_line_now_and_then():
    lines = run([100] * 1000, [1.0] * 1000, io.StringIO()).splitlines()
    assert lines[0] == "speechssl: 30 of 1,000 recordings, about 16 min left."
    assert lines[1] == "speechssl: 90 of 1,000 recordings, about 15 min left."
    assert len(lines) == 17


def test_time_left_is_of_what_is_left_and_not_of_its_number():
    (line,) = run([10, 10, 980], [20.0, 20.0, 100.0], io.StringIO()).splitlines()
    assert line == "speechssl: 2 of 3 recordings, about 33 min left."


def test_the_start_of_the_model_is_not_the_speed():
    lines = run([10] * 100, [100.0] + [1.0] * 99, io.StringIO()).splitlines()
    assert lines[0] == "speechssl: 2 of 100 recordings, about 2 min left."


@pytest.mark.parametrize(
    ("sizes", "seconds"), [([5], [500.0]), ([5, 5], [1.0, 1.0]), ([0, 0], [29.0, 200.0]), ([], [])]
)
def test_short_work_is_quiet(sizes, seconds):
    assert run(sizes, seconds, io.StringIO()) == ""


def test_a_terminal_gets_a_bar_unless_it_shows_the_results():
    shown = run([1, 1, 2], [1.0, 1.0, 1.0], Terminal())
    assert "0 of 3 recordings:   0 %|" in shown
    assert "left" in shown
    assert run([1, 1, 2], [1.0, 1.0, 1.0], Terminal(), bar=False) == ""
    assert run([1], [1.0], Terminal()) == ""


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()])
def test_sentences_are_lines(out):
    progress = Progress([1, 1], out=out)
    progress.step()
    progress.tell("b.wav cannot be read.")
    assert "speechssl: b.wav cannot be read.\n" in out.getvalue()


def test_files_of_unknown_size_do_not_break_it():
    lines = run([0] * 100, [10.0] * 100, io.StringIO()).splitlines()
    assert lines[0].endswith("16 min left.")


def test_an_error_on_the_way_closes_the_bar():
    progress = Progress([1, 1], out=Terminal())

    def results():
        yield 1
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(progress.over(results()))
    assert progress._bar.disable
