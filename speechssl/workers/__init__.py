"""Work in groups, shared with worker processes (:mod:`.sharing`) or machines (:mod:`.cluster`)."""

from speechssl.workers.cluster import Cluster
from speechssl.workers.process import expect_workers
from speechssl.workers.sharing import Group, Job, Processes, share

__all__ = ["Cluster", "Group", "Job", "Processes", "expect_workers", "share"]
