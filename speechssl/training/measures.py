"""What was measured in a run, as rows for a person. Needs no torch."""

from collections.abc import Callable

from speechssl.training.curves import Curves, chance_line, features, levels_text, percent

_MUCH_PADDING = 0.25


def measures(curves: Curves) -> list[tuple[str, str]]:
    """Every measure that the run has, for a person."""
    rows: list[tuple[str, str]] = []

    def add(title: str, name: str, form: Callable[[float], str]) -> None:
        if (value := curves.last(name)) is not None:
            rows.append((title, form(value)))

    chance = chance_line(curves)
    if chance is not None:
        add("contrastive loss", "valid/contrastive", lambda v: f"{v:.3f}, at chance {chance:.3f}")
    add("codes guessed", "valid/quantizer/predicted_perplexity", lambda v: f"{v:.1f} (perplexity)")
    for name in curves.names("valid/quantizer/perplexity_"):
        group, used = name.rsplit("_", 1)[1], name.replace("/perplexity_", "/used_")
        add(
            f"codes of group {group}",
            name,
            lambda v, used=used: f"{v:.1f} (perplexity), {curves.last(used):.0f} used",  # type: ignore[misc]
        )
    add("masked frames", "mask/share", percent)
    for feature in features(curves):
        rows.append((f"rebuilt {feature}", _rebuilt(curves, feature)))
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


def _rebuilt(curves: Curves, feature: str) -> str:
    """The distances of a feature, beside the baselines."""
    stem = f"valid/reconstruction/{feature}_"
    parts = []
    for where, baselines in (("masked", ("mean",)), ("unmasked", ("mean", "copy"))):
        if (error := curves.last(stem + where)) is None:
            continue
        names = {"mean": f"{where}_mean", "copy": "copy"}
        found = [(b, curves.last(stem + names[b])) for b in baselines]
        beside = ", ".join(f"{b} {value:.3f}" for b, value in found if value is not None)
        parts.append(f"{where} {error:.3f} ({beside})")
    return ", ".join(parts)
