"""Runs a worker: `python -m worker`. For more gradings at once, run more of them.

Imports stand inside: every judge imports this module again, as multiprocessing does with the main one.
"""

import os
import sys
import warnings

# What a judge needs to find its tools and its data. All the rest, secrets among it, is for this process alone.
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "NOISEMARK_DATA")


def drop_environment() -> None:
    """Forget all variables but `KEPT_VARIABLES`, so that no process started from here inherits them."""
    for name in set(os.environ).difference(KEPT_VARIABLES):
        del os.environ[name]


def main() -> int:
    import structlog
    from celery.platforms import SecurityWarning

    from records.blobs import BlobStore
    from records.database import Database
    from records.models import Need
    from records.settings import ConfigurationError, load_settings
    from records.versions import Versions
    from sandbox.logs import configure_logs
    from worker.app import ARGUMENTS, make_app
    from worker.canary import Canary
    from worker.grader import Grader
    from worker.judges import Judges
    from worker.probe import SandboxMissing, check_sandbox

    try:
        settings = load_settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    drop_environment()
    configure_logs()
    judges = Judges()
    structlog.get_logger().info("looking for a sandbox", sandbox=settings.backend)  # takes seconds
    try:
        cuda = check_sandbox(judges, settings)
    except SandboxMissing as error:
        print(error, file=sys.stderr)
        return 3
    database = Database(settings.database)
    needs = settings.needs or ([*Need] if cuda else [Need.CHECK, Need.TRAIN_CPU])
    versions = Versions(database, BlobStore(settings.blob_dir), settings.version_dir)
    grader = Grader(settings, database, judges, needs, Canary(settings, database, versions, judges))
    # Run by root, Celery warns of pickled messages. Ours are JSON, and carry nothing.
    warnings.simplefilter("ignore", SecurityWarning)
    make_app(settings, grader).worker_main(list(ARGUMENTS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
