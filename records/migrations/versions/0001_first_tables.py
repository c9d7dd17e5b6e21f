"""The first tables: submissions, gradings, events, artifacts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)
_SHA256 = sa.String(64)


def upgrade() -> None:
    op.create_table(
        "submissions",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("assignment", sa.String(64), nullable=False),
        sa.Column("file_name", sa.String(255), nullable=False),
        sa.Column("sha256", _SHA256, nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("receipt", sa.String(64), nullable=False),
        sa.Column("idempotency_key", _SHA256),
        sa.PrimaryKeyConstraint("id", name="pk_submissions"),
        sa.UniqueConstraint("receipt", name="uq_submissions_receipt"),
        sa.UniqueConstraint("idempotency_key", name="uq_submissions_idempotency_key"),
        sa.CheckConstraint("size > 0", name=op.f("ck_submissions_not_empty")),
    )
    op.create_table(
        "gradings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.String(32), nullable=False),
        sa.Column("recipe", sa.String(64), nullable=False),
        sa.Column("pack_version", _SHA256),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("available_at", _TIME, nullable=False),
        sa.Column("lease", sa.String(32)),
        sa.Column("worker", sa.String(128)),
        sa.Column("lease_expires_at", _TIME),
        sa.Column("heartbeat_at", _TIME),
        sa.Column("started_at", _TIME),
        sa.Column("finished_at", _TIME),
        sa.Column("report_sha256", _SHA256),
        sa.Column("html_sha256", _SHA256),
        sa.Column("message", sa.Text()),
        sa.Column("fault", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_gradings"),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name="fk_gradings_submission_id_submissions"),
        sa.UniqueConstraint("submission_id", name="uq_gradings_submission_id"),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'rejected', 'faulted')", name=op.f("ck_gradings_state")
        ),
        sa.CheckConstraint("(state = 'running') = (lease IS NOT NULL)", name=op.f("ck_gradings_running_has_lease")),
        sa.CheckConstraint("(lease IS NULL) = (lease_expires_at IS NULL)", name=op.f("ck_gradings_lease_expires")),
        sa.CheckConstraint("(state = 'done') = (report_sha256 IS NOT NULL)", name=op.f("ck_gradings_done_has_report")),
        sa.CheckConstraint("(report_sha256 IS NULL) = (html_sha256 IS NULL)", name=op.f("ck_gradings_report_has_html")),
        sa.CheckConstraint(
            "(state IN ('done', 'rejected', 'faulted')) = (finished_at IS NOT NULL)",
            name=op.f("ck_gradings_final_has_finished"),
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_gradings_attempts")),
    )
    op.create_index("ix_gradings_claim", "gradings", ["state", "available_at", "id"])
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("grading_id", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.ForeignKeyConstraint(["grading_id"], ["gradings.id"], name="fk_events_grading_id_gradings"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_grading", "events", ["grading_id", "id"])
    op.create_table(
        "artifacts",
        sa.Column("grading_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("media_type", sa.String(64), nullable=False),
        sa.Column("sha256", _SHA256, nullable=False),
        sa.PrimaryKeyConstraint("grading_id", "name", name="pk_artifacts"),
        sa.ForeignKeyConstraint(["grading_id"], ["gradings.id"], name="fk_artifacts_grading_id_gradings"),
    )


def downgrade() -> None:
    for table in ("artifacts", "events", "gradings", "submissions"):
        op.drop_table(table)
