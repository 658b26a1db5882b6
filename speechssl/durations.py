"""Durations as a person says them."""


def duration_text(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3 h 10 min``; at least a second."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
