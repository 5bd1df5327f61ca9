"""Alembic migrations of the store; `prodrec.catalog.schema` runs them."""
