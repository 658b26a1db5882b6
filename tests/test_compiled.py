"""Machine code of loops lies in the user's cache folder, never in the package."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
import loops
print(loops.twice(21))
"""


def compile_in(folder: Path, **environ: str) -> set[str]:
    """Run a compiled function of a module in `folder`; the files below it and its parent after."""
    package = folder / "package"
    package.mkdir(parents=True)
    (package / "loops.py").write_text(
        "from speechssl.compiled import njit\n"
        "def _twice(x):\n    return 2 * x\ntwice = njit(_twice)\n"
    )
    clean = {
        k: v
        for k, v in os.environ.items()
        if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "SPEECHSSL_CACHE")
    }
    done = subprocess.run(
        [sys.executable, "-B", "-c", CODE, str(package)],
        env={**clean, "PYTHONPATH": str(Path(__file__).parents[1]), **environ},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    files = {path.relative_to(folder) for path in folder.rglob("*.nb[ic]")}
    return {path.parts[0] for path in files}


def test_code_is_kept_in_the_folder_that_is_given(tmp_path):
    mine, xdg = str(tmp_path / "mine"), str(tmp_path / "xdg")
    assert compile_in(tmp_path / "a", NUMBA_CACHE_DIR=mine) == set()
    assert list(Path(mine).rglob("*.nbi"))
    assert compile_in(tmp_path / "b", XDG_CACHE_HOME=xdg) == set()
    assert list(Path(xdg, "speechssl", "numba").rglob("*.nbi"))


def test_nothing_is_written_where_no_folder_can_be(tmp_path):
    """A file in the folder's place; not even beside the source, as numba would by itself."""
    file = tmp_path / "file"
    file.touch()
    assert compile_in(tmp_path / "a", XDG_CACHE_HOME=str(file)) == set()
    assert compile_in(tmp_path / "b", NUMBA_CACHE_DIR=str(file / "x")) == set()
    assert not list(tmp_path.rglob("*.nbi"))
