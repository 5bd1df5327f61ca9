"""What people call products and tags, beside their ids."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = {"predictions": "product_title", "decisions": "product_title", "tags": "title"}

# As before, with the titles at the end.
CURRENT_TAGS = """
{create} VIEW current_tags AS
SELECT l.listing_id, p.image_sha256, p.uri, p.width, p.height, p.product, p.product_group, p.probability,
       t.tag_no, t.label, t.score, t.x1, t.y1, t.x2, t.y2, d.decision, l.bundle_id, l.run_id{titles}
FROM listings l
JOIN predictions p ON p.listing_id = l.listing_id AND p.bundle_id = l.bundle_id AND p.run_id = l.run_id
JOIN tags t ON t.listing_id = p.listing_id AND t.image_sha256 = p.image_sha256 AND t.bundle_id = p.bundle_id
LEFT JOIN decisions d ON d.listing_id = l.listing_id AND d.bundle_id = l.bundle_id AND d.policy_id = l.policy_id
    AND d.content_sha256 = l.content_sha256 AND d.run_id = l.run_id
"""
CURRENT_DECISIONS = """
{create} VIEW current_decisions AS
SELECT l.listing_id, d.decision, d.product, d.product_group, d.probability, d.reasons, l.category, l.brand, l.price,
       l.images_tagged, l.images_rejected, l.bundle_id, l.policy_id, l.run_id{titles}
FROM listings l
JOIN decisions d ON d.listing_id = l.listing_id AND d.bundle_id = l.bundle_id AND d.policy_id = l.policy_id
    AND d.content_sha256 = l.content_sha256 AND d.run_id = l.run_id
"""
REVIEW_QUEUE = """
{create} VIEW review_queue AS
SELECT l.listing_id, d.reasons, d.product, d.product_group, d.probability, l.category, l.brand, l.price,
       (SELECT {json_array}(u.uri) FROM (
            SELECT p.uri FROM predictions p WHERE p.listing_id = l.listing_id AND p.bundle_id = l.bundle_id AND p.run_id = l.run_id
            UNION ALL
            SELECT r.uri FROM rejects r WHERE r.listing_id = l.listing_id AND r.bundle_id = l.bundle_id AND r.run_id = l.run_id
            ORDER BY uri) u) AS uris,
       l.bundle_id, l.policy_id, l.run_id{titles}
FROM decisions d
JOIN listings l ON l.listing_id = d.listing_id AND l.bundle_id = d.bundle_id AND l.policy_id = d.policy_id
    AND l.content_sha256 = d.content_sha256 AND l.run_id = d.run_id
WHERE d.decision = 'review'
"""
# As in 0001.
JSON_ARRAY = {"postgresql": "json_agg", "sqlite": "json_group_array"}
# Where a view can be replaced as it stands: what was granted on it stays, and so do people's own views that read it.
REPLACING = {"postgresql", "mysql", "mariadb"}


def upgrade() -> None:
    replaces = op.get_context().dialect.name in REPLACING
    if not replaces:
        _drop_views()
    for table, column in COLUMNS.items():
        op.add_column(table, sa.Column(column, sa.Text, nullable=True))
    _create_views("CREATE OR REPLACE" if replaces else "CREATE", ", p.product_title, t.title", ", d.product_title")


def downgrade() -> None:
    _drop_views()
    for table, column in COLUMNS.items():
        op.drop_column(table, column)
    _create_views("CREATE", "", "")


def _drop_views() -> None:
    for name in ("review_queue", "current_tags", "current_decisions"):
        op.execute(f"DROP VIEW {name}")


def _create_views(create: str, of_tags: str, of_decisions: str) -> None:
    op.execute(CURRENT_DECISIONS.format(create=create, titles=of_decisions))
    op.execute(CURRENT_TAGS.format(create=create, titles=of_tags))
    json_array = JSON_ARRAY.get(op.get_context().dialect.name, "JSON_ARRAYAGG")
    op.execute(REVIEW_QUEUE.format(create=create, titles=of_decisions, json_array=json_array))
