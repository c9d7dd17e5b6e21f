"""Imported once by the fork server, so that each judge starts with all of this done (`worker.judge`)."""

import ctypes
import sys
from importlib import import_module

import torch

from sandbox import bubblewrap

# What a grading imports, which takes seconds. The judge itself names nothing of it before it runs.
MODULES = (
    "pytest",
    "grading.grade",
    "grading.check",
    "grading.runs",
    "grading.page",
    "worker.judge",
)
PR_SET_DUMPABLE = 4  # prctl(2)

# Before anything computes: a fork after torch's thread pool has started hangs.
torch.set_num_threads(1)
for module in MODULES:
    import_module(module)
# Whether bubblewrap works here is found out by trying, and remembered: judges find it known.
bubblewrap.missing()
# The first comparison imports some 500 modules, sympy among them.
torch.testing.assert_close(torch.zeros(1), torch.zeros(1))
if sys.platform == "linux":
    # Inherited by every judge: nobody with the same uid may look into its memory.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
