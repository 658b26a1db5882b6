"""The connection to a Ray cluster, quiet and private; the only place where Ray is imported."""

import contextlib
import logging
import os
import secrets
import signal
import socket
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from speechssl import system

_LOCAL_STORE_BYTES = 512 << 20
"""Of shared memory for what goes to local workers and back; taken when it is needed."""
_REACH_S = 5.0
"""Seconds within which the machine of a cluster's address has to answer."""

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # tell nobody of what is run
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what matters is raised
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning about what will change
}
_LOCAL_SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on any system: only the loopback address
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "token",
}
"""Of the environment, where it does not say otherwise; Ray reads them when it is imported."""
_FOR_WORKERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""Variables that workers on other machines get, as they count for speed."""


def checked_address(text: str) -> str:
    """An address as `Cluster` takes it; ValueError for another."""
    host, _, port = text.rpartition(":")
    if text in ("local", "auto") or (host and "/" not in host and port.isdecimal()):
        return text
    why = ""
    if text.startswith("ray://"):
        why = "; a Ray Client cannot read the recordings: run this on a machine of the cluster"
    raise ValueError(f"must be local, auto or HOST:PORT, got {text!r}{why}")


@contextlib.contextmanager
def connection(address: str, workers: int) -> Iterator[Any]:
    """The module of Ray, connected to the cluster at an address that :func:`checked_address` has
    let pass; a local one has at least so many cores as there are to be workers.

    Raises ImportError without Ray, and ValueError where there is no such cluster.
    """
    is_local = address == "local"
    with contextlib.ExitStack() as undo:
        undo.enter_context(_environment(is_local))
        ray = _import_ray()
        undo.enter_context(_quiet(ray))
        if not ray.is_initialized():
            undo.enter_context(_same_sigterm())
            folder = undo.enter_context(_short_temporary_folder()) if is_local else ""
            undo.callback(ray.shutdown)
            if is_local:
                _begin(ray, workers, folder)
            else:
                _connect(ray, address)
        yield ray


_COMMON = {"log_to_driver": False, "logging_level": logging.CRITICAL}


def _begin(ray: Any, workers: int, folder: str) -> None:
    """A cluster of this machine."""
    with _no_stderr():
        ray.init(
            address="local",
            num_cpus=max(workers, system.num_cpus()),
            include_dashboard=False,
            object_store_memory=_LOCAL_STORE_BYTES,
            _temp_dir=folder,
            **_COMMON,
        )


def _connect(ray: Any, address: str) -> None:
    _reach(address)
    variables = {name: os.environ[name] for name in _FOR_WORKERS if name in os.environ}
    try:
        with _no_stderr():
            ray.init(address, runtime_env={"env_vars": variables}, **_COMMON)
    except Exception as error:  # of several kinds, of which none is documented
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"No Ray cluster can be used at {address} ({reason[:300]}). Run this on a machine of "
            "the cluster, which `ray start` has made one (of a cluster with a token: with "
            "RAY_AUTH_MODE=token); local starts a cluster of this machine alone."
        ) from error


@contextlib.contextmanager
def _environment(is_local: bool) -> Iterator[None]:
    """What Ray and the processes that it starts find in the environment; a local cluster gets a
    token of its own, without which it answers nobody, and which is written nowhere."""
    wanted = dict(_SETTINGS)
    if is_local:
        wanted |= _LOCAL_SETTINGS | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _import_ray() -> Any:
    """Raises ImportError with the name of the extra."""
    try:
        with warnings.catch_warnings():
            # Of its own parts, also where its defaults are made for the first time.
            warnings.simplefilter("ignore")
            import ray
            import ray.data
            import ray.util.scheduling_strategies

            ray.data.DataContext.get_current()
    except ImportError as error:
        if error.name == "ray":
            raise
        raise ImportError(
            f"--cluster needs Ray Data ({error}): pip install 'speechssl[ray]'."
        ) from error
    return ray


def _reach(address: str) -> None:
    """ValueError where nobody listens; Ray would try for a minute."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"Nobody answers at {address} ({error}): give the address that `ray start` has printed."
        ) from error


@contextlib.contextmanager
def _short_temporary_folder() -> Iterator[str]:
    """For Ray's files of a local cluster; names of sockets in it may have 107 bytes."""
    usual = tempfile.gettempdir()
    base = "/tmp" if len(usual) > 24 and os.path.isdir("/tmp") else usual
    with tempfile.TemporaryDirectory(prefix="ray-", dir=base, ignore_cleanup_errors=True) as folder:
        yield folder


@contextlib.contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Nothing of what Ray tells on its way; errors are raised. Of workers that were lost it would
    tell on stdout, among the transcripts."""
    logger, module = logging.getLogger("ray.data"), ray._private.worker
    before = logger.level, getattr(module, "print_to_stdstream", None)
    logger.setLevel(logging.CRITICAL + 1)
    module.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        logger.setLevel(before[0])
        module.print_to_stdstream = before[1]


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """What is not of Python tells there that it tells nothing (RAY_BACKEND_LOG_LEVEL)."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextlib.contextmanager
def _same_sigterm() -> Iterator[None]:
    """Ray sets a handler of SIGTERM that stays behind it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, TypeError):  # not the main thread; not of Python
            signal.signal(signal.SIGTERM, before)
