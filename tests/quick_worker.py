"""A worker as `python -m worker` runs it, but for the judge. Its settings come from the environment."""


def main() -> None:
    import quick_judge

    from records.database import Database
    from records.models import Need
    from records.settings import load_settings
    from worker.__main__ import drop_environment
    from worker.app import ARGUMENTS, make_app
    from worker.grader import Grader
    from worker.judges import Judges

    settings = load_settings()
    drop_environment()
    judges = Judges(quick_judge.run, preload=("quick_judge",))
    needs = settings.needs or [Need.CHECK, Need.TRAIN_CPU]
    grader = Grader(settings, Database(settings.database), judges, needs, canary=None)
    make_app(settings, grader).worker_main(list(ARGUMENTS))


if __name__ == "__main__":
    main()
