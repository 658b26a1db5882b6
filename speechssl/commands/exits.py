"""The exit codes, and what is said beside the results."""

import sys

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


def exit_code_of(failed: int, total: int) -> int:
    """The exit code of work on many files; none could be read: then the input was wrong."""
    if failed and total > 1:
        print(f"speechssl: {failed} of {total} recordings could not be read.", file=sys.stderr)
    return EXIT_DONE if not failed else EXIT_BAD_INPUT if failed == total else EXIT_FAILED


def tell(sentence: str) -> None:
    """A sentence for the person, on stderr."""
    print(f"speechssl: {sentence}", file=sys.stderr, flush=True)
