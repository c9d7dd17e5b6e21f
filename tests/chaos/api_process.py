"""The API as `python -m api` runs it, but that it dies at steps: `python -m chaos.api_process FOLDER --fd N`."""

import sys
from pathlib import Path

from chaos.steps import API, Steps

from api.__main__ import main

if __name__ == "__main__":
    Steps(Path(sys.argv.pop(1))).install(API)
    sys.exit(main())
