"""Whether this process lives, and whether it has all it needs. Open to everybody: both tell nothing else."""

from fastapi import APIRouter, Response, status
from sqlalchemy.exc import SQLAlchemyError

from api.dependencies import ServicesDep
from api.schemas import Health, Readiness
from records.blobs import BlobError
from records.broker import broker_answers
from records.migrate import is_current

router = APIRouter(tags=["health"])


@router.get("/healthz")
def get_health() -> Health:
    """The process lives."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Readiness, "description": "something is missing"}})
def get_readiness(services: ServicesDep, response: Response) -> Readiness:
    """Database, blob store and broker. Without the broker, submissions are accepted and graded all the same."""
    missing = []
    try:
        if not is_current(services.database):
            missing.append("database: its schema is not that of this version; run `python -m records.migrate`")
    except SQLAlchemyError:
        missing.append("database: it does not answer; NOISEMARK_DATABASE_URL says where it is looked for")
    try:
        services.blobs.check()
    except BlobError as error:
        missing.append(f"{error}; NOISEMARK_DATA_DIR says where it is")
    if not broker_answers(services.celery):
        missing.append("broker: Redis does not answer; NOISEMARK_REDIS_URL says where it is looked for")
    if missing:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return Readiness(ready=not missing, missing=missing)
