"""What the folds of a refit said of rows that they had not seen (`prodrec train --refit --folds`), beside its bundle.

RUN/folds/1/answers.npz ... RUN/folds/K/answers.npz: the fields of `Predictions`; rows are numbered through train and val.
"""

import io
from dataclasses import fields, replace

import numpy as np

from prodrec.errors import OutputError
from prodrec.evaluation.predictions import Predictions
from prodrec.files import Folder
from prodrec.shards.order import Ints

FOLDS, ANSWERS = "folds", "answers.npz"


def fold_uri(run: str, fold: int | None) -> str:
    """The folder of a fold's training, in that of its refit."""
    return f"{Folder(run).uri}/{FOLDS}/{fold}"


def write_answers(run: Folder, answers: Predictions, rows: Ints) -> None:
    """The last thing that a fold's training leaves.

    Args:
        run: of the fold.
        rows: [n] that it holds out, numbers among those of `joined` shards' train.
    """
    answers, data = replace(answers, rows=rows[answers.rows]), io.BytesIO()
    np.savez(data, allow_pickle=False, **{field.name: getattr(answers, field.name) for field in fields(Predictions)})
    run.make().write(ANSWERS, data.getvalue())


def read_answers(run: Folder, folds: int) -> Predictions:
    """What all folds say, each of its own rows.

    Raises:
        OutputError: those of a fold are missing.
    """
    parts = []
    for fold in range(1, folds + 1):
        folder = Folder(fold_uri(run.uri, fold))
        try:
            with np.load(io.BytesIO(folder.read(ANSWERS)), allow_pickle=False) as file:
                parts.append(Predictions(**{field.name: file[field.name] for field in fields(Predictions)}))
        except (OSError, ValueError, KeyError) as error:
            raise OutputError(f"cannot read what fold {fold} of {folds} said, {folder / ANSWERS}: {error}; train again with --resume") from error
    return Predictions.concat(parts)
