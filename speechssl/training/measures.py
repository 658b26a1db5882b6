"""What was measured in a run, as rows for a person. Needs no torch."""

from collections.abc import Callable

from speechssl.pretext.signal import Signal
from speechssl.training.curves import Curves, levels_text, percent

_MUCH_PADDING = 0.25


def measures(curves: Curves) -> list[tuple[str, str]]:
    """Every measure that the run has, for a person."""
    rows: list[tuple[str, str]] = []

    def add(title: str, name: str, form: Callable[[float], str]) -> None:
        if (value := curves.last(name)) is not None:
            rows.append((title, form(value)))

    for signal in curves.signals:
        if signal.in_overview and (value := curves.last(f"valid/{signal.metric}")) is not None:
            rows.append((signal.title, _with_chance(curves, signal, value)))
    add("masked frames", "mask/share", percent)
    add("latents, rank", "valid/health/latent_rank", lambda v: f"{v:.1f}")
    add("latents, share that varies", "valid/health/latent_spread", percent)
    add("context, rank", "valid/health/rank", lambda v: f"{v:.1f}")
    add("context, share that varies", "valid/health/spread", percent)
    for name in curves.names("grad_norm/"):
        rows.append((f"gradient of {name.split('/')[1]}", f"{curves.late(name):.3g}"))
    if curves.is_finetuning:
        level = curves.last("valid/ctc/chance")
        beside = "" if level is None else f", at chance {level:.3f}"
        add("CTC loss in validation", "valid/loss", lambda v: f"{v:.3f}{beside}")
    add("character error rate", "valid/cer", percent)
    z = curves.last("valid/permuted/z")
    add(
        "of other utterances' text",
        "valid/permuted/cer",
        lambda v: f"{percent(v)} ({z or 0:.1f} standard errors apart)",
    )
    add("unknown characters", "valid/unknown/characters", percent)
    add("word error rate", "valid/wer", percent)
    add("blank frames", "valid/blank_rate", percent)
    if curves.points("data/level_db"):
        rows.append(("level of the recordings", levels_text(curves).partition(" of full")[0]))
    for title, name in (("waiting for data", "wait_share"), ("padding", "padding_share")):
        if (value := curves.late(f"speed/{name}")) is not None:
            much = " (much: sort by length, or smaller batches)" if value > _MUCH_PADDING else ""
            rows.append((title, percent(value) + (much if name == "padding_share" else "")))
    return rows


def _with_chance(curves: Curves, signal: Signal, value: float) -> str:
    """A signal's value, beside its chance line."""
    shown = percent if signal.unit == "share" else "{:.3f}".format
    chance = curves.last(f"valid/{signal.chance}") if signal.chance else None
    return shown(value) if chance is None else f"{shown(value)}, at chance {shown(chance)}"
