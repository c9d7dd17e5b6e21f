"""Hints that were asked for, and which hand-in another one improves on."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "improvements",
        sa.Column("submission_id", sa.String(32), nullable=False),
        sa.Column("earlier_id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("submission_id", name="pk_improvements"),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name="fk_improvements_submission_id_submissions"
        ),
        sa.ForeignKeyConstraint(["earlier_id"], ["submissions.id"], name="fk_improvements_earlier_id_submissions"),
    )
    op.create_table(
        "hints",
        sa.Column("submission_id", sa.String(32), nullable=False),
        sa.Column("blank", sa.String(64), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("submission_id", "blank", "step", name="pk_hints"),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name="fk_hints_submission_id_submissions"),
        sa.CheckConstraint("step > 0", name=op.f("ck_hints_step")),
    )


def downgrade() -> None:
    op.drop_table("hints")
    op.drop_table("improvements")
