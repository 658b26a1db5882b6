"""What is kept, cut and held out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PrepareConfig:
    """What is kept, cut and held out."""

    max_duration_s: float = 30.0
    """Recordings without a transcript are cut at quiet moments into parts no longer than this."""
    max_labeled_duration_s: float = 60.0
    """Recordings with a transcript cannot be cut and are dropped above this; more costs memory."""
    min_duration_s: float = 0.1
    """Shorter recordings are dropped: less than four frames of 20 ms."""
    silence_dbfs: float = -60.0
    """A recording whose largest sample is below this is silent and dropped, unless its level moves
    as that of speech does."""
    max_clipped_share: float = 0.05
    """A recording with a larger share of its samples at full scale is dropped."""
    dev_share: float = 0.1
    """Share of the hours for dev, where the source has no split of its own; 0 for none."""
    test_share: float = 0.1
    """Share of the hours for test, where the source has no split of its own; 0 for none."""
    seed: int = 0
    """Chooses what is held out; the same seed and source give the same files."""

    def __post_init__(self) -> None:
        if (
            not 0 <= self.dev_share + self.test_share < 1
            or min(self.dev_share, self.test_share) < 0
        ):
            raise ValueError(
                f"dev_share ({self.dev_share}) and test_share ({self.test_share}) must be 0 or "
                "more and together less than 1."
            )
        if not 0 < self.min_duration_s < self.max_duration_s:
            raise ValueError(
                "Durations must be 0 < min_duration_s < max_duration_s, got "
                f"{self.min_duration_s} and {self.max_duration_s}."
            )
        if self.max_duration_s > self.max_labeled_duration_s:
            raise ValueError(
                f"max_labeled_duration_s must be at least {self.max_duration_s}, the "
                f"max_duration_s, got {self.max_labeled_duration_s}: give "
                f"--max-labeled-duration-s {self.max_duration_s:g} too."
            )
