"""Work in groups, shared with worker processes; see :mod:`.sharing`."""

from speechssl.workers.sharing import Group, Job, Processes, share

__all__ = ["Group", "Job", "Processes", "share"]
