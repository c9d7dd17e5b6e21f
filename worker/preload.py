"""Imported once by the fork server, so that each judge starts with all of this done (`worker.judge`)."""

import ctypes
import sys

import torch

# Before anything computes: a fork after torch's thread pool has started hangs.
torch.set_num_threads(1)

import pytest  # noqa: E402, F401
import torch.testing  # noqa: E402

import sandbox.backends  # noqa: E402, F401
import worker.judge  # noqa: E402, F401

# The first comparison imports some 500 modules, sympy among them.
torch.testing.assert_close(torch.zeros(1), torch.zeros(1))

PR_SET_DUMPABLE = 4  # prctl(2)
if sys.platform == "linux":
    # Inherited by every judge: nobody with the same uid may look into its memory.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
