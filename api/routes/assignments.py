"""Assignments, and what students start from."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from fastapi.responses import FileResponse

from api.access import CallerDep
from api.dependencies import AssignmentDep, PackDep, ServicesDep, visible_assignments
from api.links import assignment_links
from api.problems import NotFound, NotOpen, TooLate, describe, refusal_problem
from api.schemas import AssignmentInfo, BlankInfo, RecipeInfo
from records.models import Assignment, Role, utc_now
from records.policy import Policy, check_starter
from reference.pack import Pack

router = APIRouter(prefix="/assignments", tags=["assignments"])

MEDIA_TYPES = {"py": "text/x-python", "ipynb": "application/x-ipynb+json"}


@router.get("", responses=describe())
def list_assignments(caller: CallerDep, services: ServicesDep) -> list[AssignmentInfo]:
    """Every assignment of your courses."""
    found = visible_assignments(caller, services)
    return [present(assignment, services.versions.pack(assignment.version_id)) for assignment in found]


@router.get("/{assignment}", responses=describe(NotFound))
def get_one(assignment: AssignmentDep, pack: PackDep) -> AssignmentInfo:
    """One assignment: its blanks, recipes and points."""
    return present(assignment, pack)


@router.get(
    "/{assignment}/starter.{suffix}", response_class=FileResponse, responses=describe(NotFound, NotOpen, TooLate)
)
def get_starter(
    assignment: AssignmentDep,
    pack: PackDep,
    caller: CallerDep,
    services: ServicesDep,
    suffix: Annotated[Literal["py", "ipynb"], Path(description="module or notebook")],
) -> FileResponse:
    """What students start from, as a module or as a notebook. Students get it once the assignment is open."""
    if not caller.is_at_least(Role.GRADER, assignment.course_id):
        policy, grant = Policy.model_validate(assignment.policy), services.assignments.grant(assignment.id, caller.id)
        if (refusal := check_starter(policy, grant, utc_now())) is not None:
            raise refusal_problem(refusal)
    path = pack.starter(".py" if suffix == "py" else ".ipynb")
    if not path.is_file():
        raise NotFound(f"The assignment {pack.id!r} has no starter of this kind.")
    return FileResponse(path, media_type=MEDIA_TYPES[suffix], filename=f"{pack.id}_starter.{suffix}")


def present(assignment: Assignment, pack: Pack) -> AssignmentInfo:
    return AssignmentInfo(
        id=assignment.id,
        course=assignment.course_id,
        title=assignment.title,
        version=pack.version,
        max_score=pack.max_score,
        pass_mark=pack.file.accuracy.pass_mark,
        default_recipe=pack.file.default_recipe,
        recipes=[RecipeInfo(name=recipe.name, title=recipe.title) for recipe in pack.recipes.values()],
        blanks=[
            BlankInfo(id=blank.id, title=blank.title, concept=blank.concept, points=blank.points)
            for blank in pack.blanks
        ],
        links=assignment_links(assignment.id),
    )
