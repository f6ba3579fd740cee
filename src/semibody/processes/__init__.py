"""Many jobs in other processes: on this machine or on a Ray cluster, results as they come (floor 1).

    for result in run_jobs(make_clip, [("a", 1), ("b", 2)], Workers(workers=2), given_up=gave_up):
        ...

A job is a function of a module and its arguments, and may be begun again: its process may die, its machine
may be lost. It decides itself what is finished, so a run that was stopped continues.
"""

from semibody.processes.run import Workers, run_jobs
from semibody.processes.worker import may_pass, own_number, own_threads

__all__ = ["Workers", "may_pass", "own_number", "own_threads", "run_jobs"]
