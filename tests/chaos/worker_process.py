"""A worker as `python -m worker` runs it, but that it dies at steps: `chaos.worker_process FOLDER quick|real`.

It has no canary: one that starts anew every few seconds would do little else.
"""

import sys
import warnings
from pathlib import Path


def main(folder: Path, judge: str) -> None:
    import quick_judge
    from celery.platforms import SecurityWarning
    from chaos.steps import WORKER, Steps

    from records.database import Database
    from records.models import Need
    from records.settings import load_settings
    from sandbox.logs import configure_logs
    from worker.__main__ import drop_environment
    from worker.app import ARGUMENTS, make_app
    from worker.grader import Grader
    from worker.judges import Judges
    from worker.probe import check_sandbox

    settings = load_settings()
    drop_environment()
    configure_logs()
    if judge == "quick":
        judges = Judges(quick_judge.run, preload=("quick_judge",))
    else:
        judges = Judges()
        check_sandbox(judges, settings)
    Steps(folder).install(WORKER)
    grader = Grader(settings, Database(settings.database), judges, [Need.CHECK, Need.TRAIN_CPU], canary=None)
    warnings.simplefilter("ignore", SecurityWarning)
    make_app(settings, grader).worker_main(list(ARGUMENTS))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
