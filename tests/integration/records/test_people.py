"""Users, tokens and rosters in both databases."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from records import audit
from records.models import AuditEntry, Role, Token, User
from records.people import BadRoster, NameTaken, People
from records.roster import Entry
from records.tokens import DEFAULT_DAYS, SESSION_HOURS, Scope, Tokens

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now

    def pass_(self, **duration):
        self.now += timedelta(**duration)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def people(store, clock):
    made = People(store.database, clock)
    made.add_course(None, "algebra", "Algebra")
    return made


@pytest.fixture
def tokens(store, clock):
    return Tokens(store.database, clock)


@pytest.fixture
def ada(people):
    return people.add_user(None, "ada", "Ada Lovelace", "ada@example.org").id


def actions(store, course):
    with store.database.read() as session:
        return [(entry.action, entry.subject, entry.data) for entry in audit.entries(session, course, 0, 1000)]


def roles(people):
    return {enrolled.user.login: enrolled.role for enrolled in people.members("algebra")}


def roster(*rows):
    return [Entry(line=number, login=login, name=name, role=role) for number, (login, name, role) in enumerate(rows, 2)]


# Tokens


def test_a_token_is_its_owner_and_only_its_hash_is_kept(store, people, tokens, ada):
    people.set_role(None, "algebra", "ada", Role.GRADER)
    issued = tokens.issue(None, ada, "laptop", {Scope.GRADE, Scope.READ})
    identity = tokens.identify(issued.secret, is_session=False)
    assert (identity.user.login, identity.scopes) == ("ada", {Scope.READ, Scope.GRADE})
    assert identity.roles == {"algebra": Role.GRADER}
    assert issued.secret.startswith("nm_")
    assert len(issued.secret) == 3 + 43  # 256 bits in base 64
    with store.database.read() as session:
        (row,) = session.execute(select(Token.__table__)).mappings()
    assert issued.secret not in str(dict(row))
    assert tokens.issue(None, ada, "laptop", {Scope.READ}).secret != issued.secret


def test_a_token_ends_when_it_expires(tokens, clock, ada):
    secret = tokens.issue(None, ada, "laptop", {Scope.READ}).secret
    clock.pass_(days=DEFAULT_DAYS, seconds=-1)
    assert tokens.identify(secret, is_session=False) is not None
    clock.pass_(seconds=1)
    assert tokens.identify(secret, is_session=False) is None
    assert tokens.of_user(ada) == []


def test_a_token_ends_when_it_is_revoked_and_sessions_with_it(tokens, people, ada):
    laptop, phone = (tokens.issue(None, ada, name, {Scope.READ}) for name in ("laptop", "phone"))
    session = tokens.open_session(laptop.secret)
    bob = people.add_user(None, "bob").id
    with pytest.raises(LookupError):
        tokens.revoke(bob, bob, laptop.token.id)
    tokens.revoke(ada, ada, laptop.token.id)
    assert tokens.identify(laptop.secret, is_session=False) is None
    assert tokens.identify(session.secret, is_session=True) is None
    assert [token.id for token in tokens.of_user(ada)] == [phone.token.id]


def test_a_session_is_good_for_a_day_and_no_longer_than_its_token(tokens, clock, ada):
    token = tokens.issue(None, ada, "laptop", {Scope.READ}, days=1)
    first = tokens.open_session(token.secret)
    assert tokens.identify(first.secret, is_session=True).scopes == {Scope.READ}
    clock.pass_(hours=SESSION_HOURS)
    assert tokens.identify(first.secret, is_session=True) is None
    clock.pass_(hours=11)
    second = tokens.open_session(token.secret)
    assert second.token.expires_at == token.token.expires_at
    assert [held.id for held in tokens.of_user(ada)] == [second.token.id, token.token.id]


def test_sessions_and_tokens_are_not_each_other(tokens, ada):
    token = tokens.issue(None, ada, "laptop", {Scope.READ})
    session = tokens.open_session(token.secret)
    assert tokens.identify(session.secret, is_session=False) is None
    assert tokens.identify(token.secret, is_session=True) is None
    assert tokens.open_session(session.secret) is None
    tokens.close_session(token.secret)  # is none
    assert tokens.identify(token.secret, is_session=False) is not None
    tokens.close_session(session.secret)
    assert tokens.identify(session.secret, is_session=True) is None


def test_use_is_noted_to_the_day(tokens, clock, ada):
    secret = tokens.issue(None, ada, "laptop", {Scope.READ}).secret
    assert tokens.of_user(ada)[0].used_at is None
    for _ in range(2):
        tokens.identify(secret, is_session=False)
        assert tokens.of_user(ada)[0].used_at == datetime(2026, 3, 2, tzinfo=UTC)
    clock.pass_(days=1)
    tokens.identify(secret, is_session=False)
    assert tokens.of_user(ada)[0].used_at == datetime(2026, 3, 3, tzinfo=UTC)


# Users


def test_a_login_is_given_once_however_it_is_written(people, ada):
    for login in ("ada", "ADA"):
        with pytest.raises(NameTaken):
            people.add_user(None, login)
    with pytest.raises(NameTaken):
        people.add_course(None, "algebra", "Again")


def test_erasing_leaves_nothing_of_a_person(store, people, tokens, ada):
    people.set_role(None, "algebra", "ada", Role.STUDENT)
    people.enrol(None, "algebra", roster(("ada", "Countess Lovelace", None)))
    secret = tokens.issue(ada, ada, "Ada's laptop", {Scope.READ}).secret
    people.erase(None, ada)
    people.erase(None, ada)  # once more is no more
    user = people.user(ada)
    assert (user.login, user.name, user.email, user.is_admin) == (f"erased-{ada}", "", "", False)
    assert user.erased_at == NOON
    assert tokens.identify(secret, is_session=False) is None
    with pytest.raises(LookupError):
        tokens.issue(None, ada, "again", {Scope.READ})
    with pytest.raises(LookupError):
        people.set_role(None, "algebra", f"erased-{ada}", Role.INSTRUCTOR)
    with store.database.read() as session:
        everything = [
            str(dict(row))
            for table in (User, Token, AuditEntry)
            for row in session.execute(select(table.__table__)).mappings()
        ]
    assert not [row for row in everything if "ada" in row.lower() or "lovelace" in row.lower()]
    assert people.add_user(None, "ada").id != ada


# Members and rosters


def test_a_roster_adds_changes_and_leaves(people, ada):
    people.add_user(None, "bob", "")
    for login, role in (("ada", Role.GRADER), ("bob", Role.STUDENT)):
        people.set_role(None, "algebra", login, role)
    change = people.enrol(
        None,
        "algebra",
        roster(("ada", "Eve", None), ("bob", "Bob", None), ("cleo", "Cleo", None), ("dan", "", Role.GRADER)),
    )
    assert (change.added, change.changed, change.unchanged) == (["cleo", "dan"], ["bob"], ["ada"])
    assert roles(people) == {"ada": "grader", "bob": "student", "cleo": "student", "dan": "grader"}
    names = {enrolled.user.login: enrolled.user.name for enrolled in people.members("algebra")}
    assert names == {"ada": "Ada Lovelace", "bob": "Bob", "cleo": "Cleo", "dan": ""}  # filled in, never replaced
    again = people.enrol(None, "algebra", roster(("bob", "", Role.INSTRUCTOR), ("cleo", "", None)))
    assert (again.changed, again.unchanged, again.missing) == (["bob"], ["cleo"], [])


def test_who_is_missing_stays_unless_it_is_said_and_staff_always(people, ada):
    people.enrol(None, "algebra", roster(("ada", "", Role.INSTRUCTOR), ("bob", "", None), ("cleo", "", None)))
    change = people.enrol(None, "algebra", roster(("cleo", "", None)))
    assert change.missing == ["bob"]
    assert roles(people).keys() == {"ada", "bob", "cleo"}
    people.enrol(None, "algebra", roster(("cleo", "", None)), remove_missing=True)
    assert roles(people).keys() == {"ada", "cleo"}


def test_a_dry_run_says_the_same_and_does_nothing(store, people, ada):
    rows = roster(("ada", "Ada King", None), ("bob", "", None))
    before = actions(store, "algebra")
    planned = people.enrol(None, "algebra", rows, remove_missing=True, dry_run=True)
    assert roles(people) == {}
    assert actions(store, "algebra") == before
    assert [user.login for user in people.users(login=None, after=0, limit=9)] == ["ada"]
    assert people.user(ada).name == "Ada Lovelace"
    assert people.enrol(None, "algebra", rows, remove_missing=True) == planned


def test_a_roster_at_fault_changes_nothing(people, ada):
    with pytest.raises(BadRoster) as raised:
        people.enrol(None, "algebra", roster(("bob", "", None), ("Ada", "", None)))
    assert [(fault.line, fault.text) for fault in raised.value.faults] == [(3, "The user 'ada' is not written 'Ada'.")]
    assert roles(people) == {}
    assert people.users(login="bob", after=0, limit=1) == []


def test_what_changes_who_may_do_what_is_audited(store, people, tokens, ada):
    people.set_role(ada, "algebra", "ada", Role.GRADER)
    people.set_role(ada, "algebra", "ada", Role.GRADER)  # is so already
    people.set_role(ada, "algebra", "ada", Role.STUDENT)
    people.enrol(ada, "algebra", roster(("bob", "", None)), remove_missing=True)
    bob = people.users(login="bob", after=0, limit=1)[0].id
    people.remove_member(ada, "algebra", "bob")
    assert actions(store, "algebra") == [
        ("course.create", "course algebra", {}),
        ("member.set", f"user {ada}", {"before": None, "role": "grader"}),
        ("member.set", f"user {ada}", {"before": "grader", "role": "student"}),
        ("user.create", f"user {bob}", {"is_admin": False}),
        ("member.set", f"user {bob}", {"before": None, "role": "student"}),
        ("member.remove", f"user {ada}", {"before": "student"}),
        ("member.remove", f"user {bob}", {"before": "student"}),
    ]
    issued = tokens.issue(ada, bob, "laptop", {Scope.READ, Scope.SUBMIT})
    tokens.revoke(bob, bob, issued.token.id)
    people.erase(None, bob)
    with store.database.read() as session:
        found = audit.entries(session, None, 0, 100)
    assert [(entry.action, entry.actor_id) for entry in found] == [
        ("user.create", None),
        ("token.issue", ada),
        ("token.revoke", bob),
        ("user.erase", None),
    ]
    assert found[1].data["scopes"] == ["read", "submit"]
    assert {entry.at for entry in found} == {NOON}


def test_the_audit_is_read_page_by_page(store, people, ada):
    people.enrol(None, "algebra", roster(*((f"u{n}", "", None) for n in range(5))))
    with store.database.read() as session:
        everything = [entry.id for entry in audit.entries(session, "algebra", 0, 1000)]
        first = [entry.id for entry in audit.entries(session, "algebra", 0, 4)]
        rest = [entry.id for entry in audit.entries(session, "algebra", first[-1], 1000)]
    assert first + rest == everything


def test_an_audit_entry_goes_with_its_transaction(store, people):
    def change_and_fail():
        with store.database.write() as session:
            audit.note(session, None, "grade.set", "algebra", "submission 1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change_and_fail()
    assert actions(store, "algebra") == [("course.create", "course algebra", {})]
