"""What every worker process of a model needs, imported once by the server from which workers fork.

So their memory is in common: torch alone makes 270 MB of private pages in each process that imports
it (a build for CUDA, whose libraries are relocated when they are loaded).
"""

import contextlib
import gc
import importlib

gc.disable()  # a fifth of the time of the imports is spent on looking for garbage
importlib.import_module("speechssl.inference.transcribe")
importlib.import_module("speechssl.interop.sources")

# What the compiled loops of :mod:`speechssl.compiled` import when the first one is called, and what
# numba itself prepares then: types and a code generator of 30 MB.
with contextlib.suppress(ImportError):
    importlib.import_module("scipy.linalg")
    importlib.import_module("numba").njit(lambda: None)()

gc.freeze()  # else the first collection of each worker would write to all pages
gc.enable()
