"""A course with an assignment, and people who may do different things there."""

from services import Store
from sqlalchemy import select

from records.models import Assignment, Role, Version, utc_now
from records.people import NameTaken, People
from records.submissions import HandedIn
from records.tokens import Scope, Tokens

COURSE, OTHER = "algebra", "botany"
ASSIGNMENT, OTHER_ASSIGNMENT = "quiz", "herbarium"
SERVER_TOKEN = "the token of the server"


class Classroom:
    """Two courses with an assignment each; whoever is needed is added by login."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.people = People(store.database)
        self.tokens = Tokens(store.database)
        for course, assignment in ((COURSE, ASSIGNMENT), (OTHER, OTHER_ASSIGNMENT)):
            self.people.add_course(None, course, course.title())
            with store.database.write() as session:
                version = session.scalars(select(Version.id)).first()
                session.add(
                    Assignment(
                        id=assignment,
                        course_id=course,
                        title=assignment.title(),
                        version_id=version,
                        policy={},
                        created_at=utc_now(),
                    )
                )

    def user(self, login: str, course: str | None = None, role: Role = Role.STUDENT, *, is_admin: bool = False) -> int:
        """The id of a user, who is made where he is missing."""
        try:
            user = self.people.add_user(None, login, login.title(), is_admin=is_admin)
        except NameTaken:
            (user,) = self.people.users(login=login, after=0, limit=1)
        if course is not None:
            self.people.set_role(None, course, login, role)
        return user.id

    def token(self, user_id: int, *scopes: Scope) -> str:
        return self.tokens.issue(None, user_id, "test", scopes or tuple(Scope)).secret

    def headers(self, user_id: int, *scopes: Scope) -> dict[str, str]:
        """What somebody sends along with a token of these scopes, or of all."""
        return bearer(self.token(user_id, *scopes))

    def hand_in(self, user_id: int | None, content: bytes = b"x = 1\n", assignment: str = ASSIGNMENT) -> str:
        handed_in = HandedIn(
            assignment=assignment, recipe="digits16", file_name="answers.py", content=content, user_id=user_id
        )
        return self._store.submissions.take_in(handed_in).submission.id


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
