"""Open speech of many languages for a seed model: see data_prep/open_speech/."""

import sys
from pathlib import Path


def main() -> int:
    sys.path.insert(0, str(Path(__file__).parents[1]))  # data_prep itself is not installed
    from data_prep.open_speech.command import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
