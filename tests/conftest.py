"""What all suites share."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))  # modules that several suites use: `import sample_reports`
torch.set_num_threads(1)  # as the judge does; on a busy machine threads that wait for each other cost more
