"""What all suites share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # modules that several suites use: `import sample_reports`
