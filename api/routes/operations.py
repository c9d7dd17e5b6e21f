"""For whoever looks after the service: figures, workers, and what a fault of ours ended."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel, Field
from sqlalchemy import select

from api.access import CallerDep, require, require_admin
from api.dependencies import AssignmentDep, ServicesDep
from api.observation import REQUESTS
from api.problems import Forbidden, NotFound, describe
from records.models import Grading, Role, State, Submission, utc_now
from records.statistics import Statistics, worker_state

MOST_FAULTS = 200  # listed: whoever has more looks at the cause first

router = APIRouter(tags=["operations"])
metrics_router = APIRouter(tags=["operations"])


class WorkerInfo(BaseModel):
    name: str
    state: str = Field(description="`ready`, `draining`, `unfit` or `silent`")
    needs: list[str] = Field(description="what it takes: `check`, `train-cpu`, `train-gpu`")
    note: str = Field(description="why it is unfit")
    warm_guests: int | None = Field(description="that wait ready at its launcher")
    kept_guests: int | None = Field(description="that are to wait there")
    started_at: datetime
    seen_at: datetime


class Drained(BaseModel):
    workers: int = Field(description="how many were asked")


class FaultInfo(BaseModel):
    submission: str
    fault: str
    finished_at: datetime


class _Figures(Collector):
    def __init__(self, found: Statistics) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        found = self._found
        yield _gauge("waiting", "Gradings that wait", ("need", "kind"), found.waiting)
        yield _gauge("oldest_waiting_seconds", "Of the one that waits longest", (), {(): found.oldest_seconds})
        yield _gauge("gradings", "Gradings there are", ("state",), {(k,): v for k, v in found.gradings.items()})
        yield _gauge("verdicts", "Gradings that count", ("verdict",), {(k,): v for k, v in found.verdicts.items()})
        yield _gauge("faults", "Gradings that met a fault of ours", (), {(): found.retried})
        yield _gauge("workers", "Workers", ("state",), {(k,): v for k, v in found.workers.items()})
        guests = "Guests that wait at a worker's launcher, warm now and to be kept; workers share one"
        yield _gauge("guests", guests, ("worker", "count"), found.guests)
        stages = {
            (stage, quantile): value
            for stage, values in found.stage_seconds.items()
            for quantile, value in zip(("0.5", "0.95"), values, strict=True)
        }
        yield _gauge("stage_seconds", "Of the last hour", ("stage", "quantile"), stages)


def _gauge(name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
    """`values`: by tuples of the labels' values."""
    family = GaugeMetricFamily(f"noisemark_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


@metrics_router.get("/metrics", response_class=Response, responses=describe(Forbidden))
def get_metrics(caller: CallerDep, services: ServicesDep) -> Response:
    """Figures for Prometheus. For administrators: a scraper sends the server's token as its bearer token."""
    require_admin(caller)
    registry = CollectorRegistry()
    registry.register(_Figures(services.figures.read()))
    registry.register(REQUESTS)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/workers", responses=describe(Forbidden))
def list_workers(caller: CallerDep, services: ServicesDep) -> list[WorkerInfo]:
    """Workers as they last told of themselves."""
    require_admin(caller)
    now = utc_now()
    return [
        WorkerInfo(
            name=worker.name,
            state=worker_state(worker, now),
            needs=worker.needs,
            note=worker.note,
            warm_guests=worker.warm_guests,
            kept_guests=worker.kept_guests,
            started_at=worker.started_at,
            seen_at=worker.seen_at,
        )
        for worker in services.workers.all()
    ]


@router.put("/workers/draining", responses=describe(Forbidden, NotFound))
def drain_workers(
    draining: bool,
    caller: CallerDep,
    services: ServicesDep,
    name: Annotated[str | None, Query(description="of one worker; all of them if absent")] = None,
) -> Drained:
    """Have workers finish what they do and take nothing more, or go on. They notice within seconds."""
    require_admin(caller)
    asked = services.workers.drain(draining, name)
    if name is not None and not asked:
        raise NotFound(f"There is no worker {name!r}. GET /workers lists those there are.")
    return Drained(workers=asked)


@router.get("/assignments/{assignment}/faults", responses=describe(NotFound, Forbidden))
def list_faults(assignment: AssignmentDep, caller: CallerDep, services: ServicesDep) -> list[FaultInfo]:
    """What a fault of ours ended, the latest first. It cost nobody an attempt; a regrade in mode `full` tries again."""
    require(caller, assignment.course_id, Role.GRADER)
    faulted = (
        select(Grading.submission_id, Grading.fault, Grading.finished_at)
        .join(Submission, Submission.id == Grading.submission_id)
        .where(Submission.assignment == assignment.id, Grading.state == State.FAULTED)
        .order_by(Grading.id.desc())
        .limit(MOST_FAULTS)
    )
    with services.database.read() as session:
        return [
            FaultInfo(submission=row.submission_id, fault=row.fault, finished_at=row.finished_at)
            for row in session.execute(faulted)
        ]
