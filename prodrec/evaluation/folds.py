"""What the folds of a refit said of rows that they had not seen (`prodrec train --refit --folds`), and what may be promised by it.

Folds of one source can be more alike than new photos are to it: photos of one shelf in two folds. All that is known of that is what
the run before said of val, of which it had learned nothing. So a promise of the folds is put to that test, and one that fails it is
not given. On grocery, whose val and test are of other shops, folds promised 98 % and test kept 85 % (docs/log.md 2026-11-28).

RUN/folds/1/answers.npz ... RUN/folds/K/answers.npz: the fields of `Predictions`; rows are numbered through train and val.
"""

import io
from dataclasses import fields, replace
from typing import Any

import numpy as np

from prodrec.errors import OutputError
from prodrec.evaluation.acceptance import accepted_metrics, chance_of_so_few, choose_acceptance
from prodrec.evaluation.calibration import fit_temperature
from prodrec.evaluation.predictions import Predictions
from prodrec.files import Folder
from prodrec.models.bundle_info import Acceptance, ClassifierInfo
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


def chosen_on_folds(answers: Predictions, on_val: Predictions, before: ClassifierInfo, target_precision: float, confidence: float) -> tuple[float, Acceptance]:
    """Temperature and thresholds by what the folds say; those of the run before where val refutes them.

    Args:
        on_val: what the bundle of the run before says of val.
        before: that bundle's; the same data, the same labels.
    """
    labels, temperature = before.labels, fit_temperature(answers)
    chosen = choose_acceptance(answers, labels, temperature, target_precision, confidence, FOLDS, before.data_manifest_sha256)
    seen = accepted_metrics(chosen, on_val, labels, temperature)
    if not is_refuted(seen["accepted"] - seen["right"], seen["accepted"], target_precision, confidence):
        return temperature, chosen
    told = (
        f"the folds would promise {target_precision:.1%}, and of the {seen['accepted']:,} val images that their thresholds accept "
        f"the run before, which had not learned from val, had {seen['precision']:.1%} right: new photos are less like the rest than folds are like each other"
    )
    nothing: dict[str, Any] = {
        "threshold": None,
        "class_thresholds": {},
        "accepted": 0,
        "right": 0,
        "accepted_share_ci95": (0.0, 1.0),
        "precision_ci95": (0.0, 1.0),
    }
    return before.temperature, (before.acceptance or chosen.model_copy(update=nothing)).model_copy(update={"carried_over": told})


def is_refuted(misses: int, n: int, target_precision: float, confidence: float) -> bool:
    """Whether so many mistakes, or more, in n answers would come of a kept promise with a probability of at most 1 - confidence."""
    return misses > 0 and 1 - chance_of_so_few(misses - 1, n, 1 - target_precision) <= 1 - confidence
