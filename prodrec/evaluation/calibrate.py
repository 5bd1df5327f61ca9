"""Calibrating a classifier's bundle: what `prodrec calibrate` does."""

from prodrec.errors import BundleError, ConfigError, ShardsError
from prodrec.evaluation.acceptance import CONFIDENCE, choose_acceptance, least_rows
from prodrec.evaluation.calibration import MIN_ROWS_TO_FIT, fit_temperature
from prodrec.evaluation.folds import FOLDS, chosen_on_folds, read_answers
from prodrec.evaluation.judging import open_judged, predicted
from prodrec.evaluation.summary import LEARNED_VAL, origin
from prodrec.files import Folder
from prodrec.machine import torch_device
from prodrec.models.bundle_files import bundle_folder, load_info, rewrite_info
from prodrec.models.bundle_info import Acceptance, ClassifierInfo
from prodrec.shards.reading import Shards


def calibrate(bundle_uri: str, shards_uri: str, split: str, target_precision: float, confidence: float = CONFIDENCE, gpu: bool = False) -> Acceptance:
    """Chooses temperature and thresholds of a classifier's bundle on a split, and writes them into it: what `prodrec calibrate` does.

    Raises:
        BundleError, ShardsError, OutputError: what is wrong with the bundle, the shards, or the place of the bundle.
        ConfigError: the split was learned from, or a GPU is asked for and there is none.
    """
    if split == "train":
        raise ConfigError("--split train was learned from and would promise too much; choose val")
    if split == FOLDS:
        shards, info, temperature, acceptance = _of_folds(bundle_uri, shards_uri, target_precision, confidence, gpu)
    else:
        shards, info, temperature, acceptance = _of_split(bundle_uri, shards_uri, split, target_precision, confidence, gpu)
    acceptance = acceptance.model_copy(update=origin(shards, split, info.learned_from))
    if not acceptance.accepted and info.acceptance is not None and info.acceptance.accepted:
        raise BundleError(f"{promise(acceptance)}; {bundle_uri} keeps its thresholds for {info.acceptance.target_precision:.1%}")
    rewrite_info(bundle_uri, info.model_copy(update={"temperature": temperature, "acceptance": acceptance}))
    return acceptance


_Chosen = tuple[Shards, ClassifierInfo, float, Acceptance]


def _of_split(bundle_uri: str, shards_uri: str, split: str, target_precision: float, confidence: float, gpu: bool) -> _Chosen:
    device = torch_device(gpu)
    bundle, shards = open_judged(bundle_uri, shards_uri, split, device)
    info = bundle.info
    if not isinstance(info, ClassifierInfo):
        raise BundleError(f"{bundle_uri} is a {info.kind}; its thresholds are chosen in training (tags.target_precision): give a classifier's bundle")
    if split == "val" and info.val_learned:
        raise ConfigError(f"{bundle_uri} {LEARNED_VAL}: val would promise too much; give --split {FOLDS} (of a --refit with --folds), or other shards")
    predictions = predicted(bundle, shards.relabelled(info.labels), split, device)
    # Too few rows, or none that is wrong, do not tell a temperature: the one of the training stays.
    can_tell = len(predictions) >= MIN_ROWS_TO_FIT and not predictions.hits.all()
    temperature = fit_temperature(predictions) if can_tell else info.temperature
    return shards, info, temperature, choose_acceptance(predictions, info.labels, temperature, target_precision, confidence, split, shards.manifest_sha256)


def _of_folds(bundle_uri: str, shards_uri: str, target_precision: float, confidence: float, gpu: bool) -> _Chosen:
    device, info, place = torch_device(gpu), load_info(bundle_uri, "classifier"), bundle_folder(bundle_uri).uri
    assert isinstance(info, ClassifierInfo)
    refit = info.recipe.get("refit") or {}
    if not refit.get("folds"):
        raise ConfigError(f"{bundle_uri} was made without folds; train it with --refit RUN --folds 5, or choose another --split")
    answers = read_answers(Folder(place.rpartition("/")[0]), refit["folds"])
    before, shards = open_judged(refit["bundle"], shards_uri, "val", device, "classifier")
    if info.data_manifest_sha256 != shards.manifest_sha256:
        raise ShardsError(f"{bundle_uri} and its folds learned from other shards than {shards.uri}; give those")
    shards = shards.limited(info.recipe["data"]["limit"])
    on_val = predicted(before, shards.relabelled(info.labels), "val", device)
    chosen = chosen_on_folds(answers, on_val, before.info, target_precision, confidence)
    if chosen[1].carried_over:
        raise BundleError(f"{bundle_uri} keeps its thresholds: {chosen[1].carried_over}")
    return shards, info, *chosen


def promise(acceptance: Acceptance) -> str:
    """What was chosen, for people."""
    a, own = acceptance, sum(threshold is not None for threshold in acceptance.class_thresholds.values())
    never = [label for label, threshold in acceptance.class_thresholds.items() if threshold is None]
    if not a.accepted:
        needed = least_rows(a.target_precision, a.confidence)
        return (
            f"no probability promises a precision of {a.target_precision:.1%} on the {a.n:,} images of {a.split}: nothing is accepted without a person; "
            f"with {a.confidence:.0%} confidence it takes {needed} sure answers without a mistake: "
            f"add images to {a.split}, or lower --precision or --confidence"
        )
    low, high = a.accepted_share_ci95
    least, most = a.precision_ci95
    from_on = f"from {a.threshold:.1%} on" if a.threshold is not None else "by the labels' own thresholds alone"
    return (
        f"accepted {from_on}"
        + (f", {own} labels from thresholds of their own" if own else "")
        + (f"; never {', '.join(never[:3])}{f' and {len(never) - 3} more' if len(never) > 3 else ''}, often mistaken" if never else "")
        + "\n"
        + f"precision >= {a.target_precision:.1%} promised with {a.confidence:.0%} confidence\n"
        + f"on {a.split}, before the rules on photos and categories: {a.accepted / a.n:.1%} of {a.n:,} images accepted ({low:.1%} to {high:.1%}), "
        f"{a.right / a.accepted:.1%} of these right ({least:.1%} to {most:.1%})"
    )
