"""People, courses, assignments and their versions, regrades, work by hand; gradings in several legs."""

import sqlalchemy as sa
from alembic import op
from alembic.operations.base import BatchOperations

revision = "0003"
down_revision = "0002"

_TIME = sa.DateTime(timezone=True)
_FINAL = ("done", "rejected", "faulted", "cancelled")
_TABLES = (
    "courses",
    "users",
    "versions",
    "workers",
    "assignments",
    "audit",
    "members",
    "tokens",
    "extensions",
    "regrades",
    "flag_decisions",
    "notices",
    "overrides",
    "regrade_requests",
    "comments",
    "regrade_items",
)


def upgrade() -> None:
    op.create_table(
        "courses",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_courses"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("login", sa.String(128), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("email", sa.String(255), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("erased_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("login", name="uq_users_login"),
    )
    op.create_table(
        "versions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("pack", sa.String(64), nullable=False),
        sa.Column("archive_sha256", sa.String(64), nullable=False),
        sa.Column("published_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("needs", sa.JSON(), nullable=False),
        sa.Column("fit", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("warm_guests", sa.Integer()),
        sa.Column("kept_guests", sa.Integer()),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )
    op.create_table(
        "assignments",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("course_id", sa.String(64), nullable=False),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("version_id", sa.String(64), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("paused", sa.Text()),
        sa.Column("grades_published_at", _TIME),
        sa.Column("created_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["course_id"], ["courses.id"], name="fk_assignments_course_id_courses"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_assignments_version_id_versions"),
        sa.PrimaryKeyConstraint("id", name="pk_assignments"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor_id", sa.Integer()),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("course_id", sa.String(64)),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name="fk_audit_actor_id_users"),
        sa.ForeignKeyConstraint(["course_id"], ["courses.id"], name="fk_audit_course_id_courses"),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_course", "audit", ["course_id", "id"])

    op.create_table(
        "members",
        sa.Column("course_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.ForeignKeyConstraint(["course_id"], ["courses.id"], name="fk_members_course_id_courses"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_members_user_id_users"),
        sa.PrimaryKeyConstraint("course_id", "user_id", name="pk_members"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("is_session", sa.Boolean(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME),
        sa.Column("used_at", _TIME),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("sha256", name="uq_tokens_sha256"),
    )
    op.create_index("ix_tokens_user", "tokens", ["user_id"])

    op.create_table(
        "extensions",
        sa.Column("assignment_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("hours", sa.Double(), nullable=False),
        sa.Column("bonus_attempts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignments.id"], name="fk_extensions_assignment_id_assignments"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_extensions_user_id_users"),
        sa.PrimaryKeyConstraint("assignment_id", "user_id", name="pk_extensions"),
    )
    op.create_table(
        "regrades",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("assignment_id", sa.String(64), nullable=False),
        sa.Column("version_id", sa.String(64), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("selection", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_by", sa.Integer()),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("decided_at", _TIME),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignments.id"], name="fk_regrades_assignment_id_assignments"),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name="fk_regrades_created_by_users"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_regrades_version_id_versions"),
        sa.PrimaryKeyConstraint("id", name="pk_regrades"),
    )
    op.create_table(
        "flag_decisions",
        sa.Column("submission_id", sa.String(32), nullable=False),
        sa.Column("flag", sa.String(64), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Integer()),
        sa.Column("at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["by"], ["users.id"], name="fk_flag_decisions_by_users"),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name="fk_flag_decisions_submission_id_submissions"
        ),
        sa.PrimaryKeyConstraint("submission_id", "flag", name="pk_flag_decisions"),
    )
    op.create_table(
        "notices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.String(32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("read_at", _TIME),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name="fk_notices_submission_id_submissions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_notices_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_notices"),
    )
    op.create_index("ix_notices_user", "notices", ["user_id"])

    op.create_table(
        "overrides",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.String(32), nullable=False),
        sa.Column("blank", sa.String(64), nullable=False),
        sa.Column("points", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Integer()),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("withdrawn_at", _TIME),
        sa.ForeignKeyConstraint(["by"], ["users.id"], name="fk_overrides_by_users"),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name="fk_overrides_submission_id_submissions"),
        sa.PrimaryKeyConstraint("id", name="pk_overrides"),
    )
    op.create_index("ix_overrides_submission", "overrides", ["submission_id"])

    op.create_table(
        "regrade_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.String(32), nullable=False),
        sa.Column("blank", sa.String(64)),
        sa.Column("by", sa.Integer()),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("closed_at", _TIME),
        sa.ForeignKeyConstraint(["by"], ["users.id"], name="fk_regrade_requests_by_users"),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name="fk_regrade_requests_submission_id_submissions"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_regrade_requests"),
    )
    op.create_index("ix_regrade_requests_submission", "regrade_requests", ["submission_id"])

    op.create_table(
        "comments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.String(32), nullable=False),
        sa.Column("blank", sa.String(64)),
        sa.Column("request_id", sa.Integer()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("by", sa.Integer()),
        sa.Column("at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["by"], ["users.id"], name="fk_comments_by_users"),
        sa.ForeignKeyConstraint(
            ["request_id"], ["regrade_requests.id"], name="fk_comments_request_id_regrade_requests"
        ),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name="fk_comments_submission_id_submissions"),
        sa.PrimaryKeyConstraint("id", name="pk_comments"),
    )
    op.create_index("ix_comments_submission", "comments", ["submission_id"])

    op.create_table(
        "regrade_items",
        sa.Column("regrade_id", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.String(32), nullable=False),
        sa.Column("before_id", sa.Integer(), nullable=False),
        sa.Column("after_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["after_id"], ["gradings.id"], name="fk_regrade_items_after_id_gradings"),
        sa.ForeignKeyConstraint(["before_id"], ["gradings.id"], name="fk_regrade_items_before_id_gradings"),
        sa.ForeignKeyConstraint(["regrade_id"], ["regrades.id"], name="fk_regrade_items_regrade_id_regrades"),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name="fk_regrade_items_submission_id_submissions"
        ),
        sa.PrimaryKeyConstraint("regrade_id", "submission_id", name="pk_regrade_items"),
    )
    _keep_what_there_is()
    with op.batch_alter_table("gradings") as batch:
        _allow_states(batch, _FINAL)
        batch.add_column(sa.Column("version_id", sa.String(64)))
        batch.add_column(sa.Column("mode", sa.String(16), nullable=False, server_default="full"))
        batch.add_column(sa.Column("basis_id", sa.Integer()))
        batch.add_column(sa.Column("regrade_id", sa.Integer()))
        batch.add_column(sa.Column("counts", sa.Boolean(), nullable=False, server_default=sa.true()))
        batch.add_column(sa.Column("need", sa.String(16), nullable=False, server_default="check"))
        batch.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("turn", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("checked_sha256", sa.String(64)))
        batch.add_column(sa.Column("outcome", sa.JSON()))
        batch.drop_constraint("uq_gradings_submission_id", type_="unique")
        batch.drop_index("ix_gradings_claim")
        batch.create_unique_constraint("uq_gradings_submission_id_regrade_id", ["submission_id", "regrade_id"])
        batch.create_foreign_key("fk_gradings_regrade_id_regrades", "regrades", ["regrade_id"], ["id"])
        batch.create_foreign_key("fk_gradings_basis_id_gradings", "gradings", ["basis_id"], ["id"])
    op.execute(f"UPDATE gradings SET version_id = COALESCE(pack_version, '{_UNKNOWN}')")  # noqa: S608
    with op.batch_alter_table("gradings") as batch:
        for column in ("mode", "counts", "need", "priority", "turn"):
            batch.alter_column(column, server_default=None)
        batch.alter_column("version_id", nullable=False)
        batch.create_foreign_key("fk_gradings_version_id_versions", "versions", ["version_id"], ["id"])
        batch.drop_column("pack_version")
    op.create_index("ix_gradings_claim", "gradings", ["state", "need", "priority", "turn", "id"])
    counts = sa.text("counts")
    op.create_index(
        "uq_gradings_counts", "gradings", ["submission_id"], unique=True, sqlite_where=counts, postgresql_where=counts
    )
    with op.batch_alter_table("submissions") as batch:
        batch.add_column(sa.Column("user_id", sa.Integer()))
        batch.create_foreign_key("fk_submissions_user_id_users", "users", ["user_id"], ["id"])
        batch.create_foreign_key("fk_submissions_assignment_assignments", "assignments", ["assignment"], ["id"])
    op.create_index("ix_submissions_of", "submissions", ["assignment", "user_id", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_submissions_of", "submissions")
    with op.batch_alter_table("submissions") as batch:
        batch.drop_constraint("fk_submissions_user_id_users", type_="foreignkey")
        batch.drop_constraint("fk_submissions_assignment_assignments", type_="foreignkey")
        batch.drop_column("user_id")
    op.execute("DELETE FROM artifacts WHERE grading_id IN (SELECT id FROM gradings WHERE NOT counts)")
    op.execute("DELETE FROM events WHERE grading_id IN (SELECT id FROM gradings WHERE NOT counts)")
    op.drop_table("regrade_items")
    op.execute("UPDATE gradings SET basis_id = NULL, regrade_id = NULL")
    op.execute("DELETE FROM gradings WHERE NOT counts OR state = 'cancelled'")
    op.drop_index("uq_gradings_counts", "gradings")
    op.drop_index("ix_gradings_claim", "gradings")
    with op.batch_alter_table("gradings") as batch:
        _allow_states(batch, _FINAL[:3])
        batch.add_column(sa.Column("pack_version", sa.String(64)))
        for name, target in (("version_id", "versions"), ("regrade_id", "regrades"), ("basis_id", "gradings")):
            batch.drop_constraint(f"fk_gradings_{name}_{target}", type_="foreignkey")
        batch.drop_constraint("uq_gradings_submission_id_regrade_id", type_="unique")
        batch.create_unique_constraint("uq_gradings_submission_id", ["submission_id"])
    op.execute("UPDATE gradings SET pack_version = version_id WHERE state = 'done'")
    with op.batch_alter_table("gradings") as batch:
        for column in ("version_id", "mode", "basis_id", "regrade_id", "counts", "need", "priority", "turn"):
            batch.drop_column(column)
        batch.drop_column("checked_sha256")
        batch.drop_column("outcome")
    op.create_index("ix_gradings_claim", "gradings", ["state", "available_at", "id"])
    for table in reversed(_TABLES):
        if table != "regrade_items":
            op.drop_table(table)


_UNKNOWN = "0" * 64  # the version of what was graded before packs were frozen, or never graded


def _keep_what_there_is() -> None:
    """Assignments and versions for the submissions of before."""
    now = "CURRENT_TIMESTAMP"
    there_is_one = "EXISTS (SELECT 1 FROM submissions)"
    op.execute(f"INSERT INTO courses SELECT 'open', 'Open to everybody', {now} WHERE {there_is_one}")
    versions = f"SELECT COALESCE(g.pack_version, '{_UNKNOWN}') AS id, MIN(s.assignment) AS pack"
    rows = f"{versions} FROM gradings g JOIN submissions s ON s.id = g.submission_id GROUP BY 1"
    op.execute(f"INSERT INTO versions SELECT id, pack, '{_UNKNOWN}', {now} FROM ({rows}) AS found")  # noqa: S608
    op.execute(
        "INSERT INTO assignments (id, course_id, title, version_id, policy, created_at) "  # noqa: S608
        f"SELECT s.assignment, 'open', s.assignment, MIN(COALESCE(g.pack_version, '{_UNKNOWN}')), '{{}}', {now} "
        "FROM submissions s JOIN gradings g ON g.submission_id = s.id GROUP BY s.assignment"
    )


def _allow_states(batch: BatchOperations, final: tuple[str, ...]) -> None:
    ended = ", ".join(f"'{state}'" for state in final)
    for name, holds in (
        ("state", f"state IN ('queued', 'running', {ended})"),
        ("final_has_finished", f"(state IN ({ended})) = (finished_at IS NOT NULL)"),
    ):
        batch.drop_constraint(op.f(f"ck_gradings_{name}"), type_="check")
        batch.create_check_constraint(op.f(f"ck_gradings_{name}"), holds)
