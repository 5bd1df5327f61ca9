"""What tests of disturbed bulk runs look at: the tables of a store."""

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

TABLES = ("listings", "predictions", "tags", "decisions", "rejects")


def dump(url: str) -> dict[str, list[tuple]]:
    """All rows of all tables but the runs', sorted; a JSON text is as it was written."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {name: sorted(map(repr, connection.execute(text(f"SELECT * FROM {name}")))) for name in TABLES}
    engine.dispose()
    return found


def rows_in(url: str) -> int:
    """Listings written so far; 0 where there is no table yet, or no database."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return connection.execute(text("SELECT count(*) FROM listings")).scalar_one()
    except SQLAlchemyError:
        return 0
    finally:
        engine.dispose()
