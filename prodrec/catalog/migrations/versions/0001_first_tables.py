"""The first tables and views."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INDEXED = sa.Text().with_variant(sa.String(191), "mysql", "mariadb")

# What each listing shows now, one row a tag.
CURRENT_TAGS = """
CREATE VIEW current_tags AS
SELECT l.listing_id, p.image_sha256, p.uri, p.width, p.height, p.product, p.product_group, p.probability,
       t.tag_no, t.label, t.score, t.x1, t.y1, t.x2, t.y2, d.decision, l.bundle_id, l.run_id
FROM listings l
JOIN predictions p ON p.listing_id = l.listing_id AND p.bundle_id = l.bundle_id AND p.run_id = l.run_id
JOIN tags t ON t.listing_id = p.listing_id AND t.image_sha256 = p.image_sha256 AND t.bundle_id = p.bundle_id
LEFT JOIN decisions d ON d.listing_id = l.listing_id AND d.bundle_id = l.bundle_id AND d.policy_id = l.policy_id
    AND d.content_sha256 = l.content_sha256 AND d.run_id = l.run_id
"""

# What each listing is decided now, one row each.
CURRENT_DECISIONS = """
CREATE VIEW current_decisions AS
SELECT l.listing_id, d.decision, d.product, d.product_group, d.probability, d.reasons, l.category, l.brand, l.price,
       l.images_tagged, l.images_rejected, l.bundle_id, l.policy_id, l.run_id
FROM listings l
JOIN decisions d ON d.listing_id = l.listing_id AND d.bundle_id = l.bundle_id AND d.policy_id = l.policy_id
    AND d.content_sha256 = l.content_sha256 AND d.run_id = l.run_id
"""

# Images that cannot be used as their listings are now, one row each.
CURRENT_REJECTS = """
CREATE VIEW current_rejects AS
SELECT r.listing_id, r.uri, r.code, r.detail, r.bundle_id, r.run_id
FROM listings l
JOIN rejects r ON r.listing_id = l.listing_id AND r.bundle_id = l.bundle_id AND r.run_id = l.run_id
"""

# Listings that a person has to look at, one row each. `uris`: of all their images, rejected ones too, a JSON array.
REVIEW_QUEUE = """
CREATE VIEW review_queue AS
SELECT l.listing_id, d.reasons, d.product, d.product_group, d.probability, l.category, l.brand, l.price,
       (SELECT {json_array}(u.uri) FROM (
            SELECT p.uri FROM predictions p WHERE p.listing_id = l.listing_id AND p.bundle_id = l.bundle_id AND p.run_id = l.run_id
            UNION ALL
            SELECT r.uri FROM rejects r WHERE r.listing_id = l.listing_id AND r.bundle_id = l.bundle_id AND r.run_id = l.run_id
            ORDER BY uri) u) AS uris,
       l.bundle_id, l.policy_id, l.run_id
FROM decisions d
JOIN listings l ON l.listing_id = d.listing_id AND l.bundle_id = d.bundle_id AND l.policy_id = d.policy_id
    AND l.content_sha256 = d.content_sha256 AND l.run_id = d.run_id
WHERE d.decision = 'review'
"""
# JSON_ARRAYAGG is standard SQL (ISO/IEC 9075:2016), which PostgreSQL speaks since 16.
JSON_ARRAY = {"postgresql": "json_agg", "sqlite": "json_group_array"}


def key(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, INDEXED, primary_key=True) for name in names]


def given(type_: type[sa.types.TypeEngine[Any]], *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, type_, nullable=False) for name in names]


def known(type_: type[sa.types.TypeEngine[Any]], *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, type_, nullable=True) for name in names]


def run_id() -> sa.Column[str]:
    return sa.Column("run_id", INDEXED, nullable=False)


def upgrade() -> None:
    op.create_table(
        "runs",
        *key("run_id"),
        *given(sa.Text, "status", "started"),
        *known(sa.Text, "finished"),
        *given(sa.Text, "run_date", "input", "bundle_id", "policy_id", "policy", "code_version"),
        *known(sa.Integer, "rows_in", "rows_tagged", "rows_skipped", "rows_rejected", "listings", "accepted", "reviewed", "refused"),
    )
    op.create_table(
        "listings",
        *key("listing_id"),
        *known(sa.Text, "category", "brand"),
        *known(sa.Double, "price"),
        *given(sa.Text, "input_sha256", "content_sha256", "bundle_id", "policy_id"),
        run_id(),
        *given(sa.Integer, "images_tagged", "images_rejected"),
    )
    _create_results()
    op.create_index("ix_listings_run_id", "listings", ["run_id"])
    op.create_index("ix_predictions_run_id", "predictions", ["run_id"])
    op.create_index("ix_rejects_run_id", "rejects", ["run_id"])
    op.create_index("ix_decisions_decision", "decisions", ["decision", "run_id"])
    op.execute(CURRENT_DECISIONS)
    op.execute(CURRENT_REJECTS)
    op.execute(CURRENT_TAGS)
    op.execute(REVIEW_QUEUE.format(json_array=JSON_ARRAY.get(op.get_context().dialect.name, "JSON_ARRAYAGG")))


def _create_results() -> None:
    op.create_table(
        "predictions",
        *key("listing_id", "image_sha256", "bundle_id"),
        *given(sa.Text, "uri"),
        *given(sa.Integer, "width", "height"),
        *known(sa.Text, "product", "product_group"),
        *known(sa.Double, "probability"),
        *known(sa.Text, "candidates"),
        *known(sa.Double, "energy"),
        *known(sa.Text, "quality"),
        *known(sa.BigInteger, "phash"),
        run_id(),
    )
    op.create_table(
        "tags",
        *key("listing_id", "image_sha256", "bundle_id"),
        sa.Column("tag_no", sa.Integer, primary_key=True),
        *given(sa.Text, "label"),
        *known(sa.Double, "score", "x1", "y1", "x2", "y2"),
    )
    op.create_table(
        "decisions",
        *key("listing_id", "bundle_id", "policy_id", "content_sha256"),
        sa.Column("decision", sa.String(16), nullable=False),
        *known(sa.Text, "reasons", "product", "product_group"),
        *known(sa.Double, "probability"),
        run_id(),
    )
    op.create_table("rejects", *key("listing_id", "uri_sha256", "bundle_id"), *given(sa.Text, "uri", "code"), *known(sa.Text, "detail"), run_id())


def downgrade() -> None:
    for name in ("review_queue", "current_tags", "current_rejects", "current_decisions"):
        op.execute(f"DROP VIEW {name}")
    for name in ("rejects", "decisions", "tags", "predictions", "listings", "runs"):
        op.drop_table(name)
