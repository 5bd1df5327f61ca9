from dataclasses import replace

import pytest

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.errors import ConfigError
from prodrec.images.quality_scores import Quality
from prodrec.labels import Label
from prodrec.models.bundle_info import Acceptance, ClassifierInfo, TaggerInfo
from prodrec.scoring.decision import Decider
from prodrec.scoring.policy import Policy, load_policy
from prodrec.scoring.recognition import Product, Recognition, Tag

ACCEPTANCE = Acceptance(
    target_precision=0.95,
    confidence=0.9,
    threshold=0.8,
    class_thresholds={"lamp": None, "bowl": 0.95},
    energy_limit=-3.0,
    split="val",
    n=100,
    accepted=50,
    right=49,
    accepted_share_ci95=(0.4, 0.6),
    precision_ci95=(0.9, 0.99),
    data_manifest_sha256="",
)
COMMON = {"model": ModelConfig(arch="custom_cnn", weights="none"), "input": PreprocessSpec(), "metrics": {}, "recipe": {}, "data_manifest_sha256": ""}
CLASSIFIER = ClassifierInfo(labels=[Label(name="mug", group="kitchen")], temperature=1, train_counts=[1], acceptance=ACCEPTANCE, **COMMON)
TAGGER = TaggerInfo(labels=[Label(name="cup")], thresholds=[0.5], train_boxes=[1], **COMMON)
FINE = Quality(short_side=600, aspect=1.2, sharpness=0.4, brightness=0.5, darkness=0.2, contrast=0.8, blown=0.01, blank=0.2, border=0.0, white_background=0.1)


def shown(label="mug", probability=0.9, group="kitchen", energy=-6.0, **fields) -> Recognition:
    return Recognition(600, 720, "aa", 1, products=(Product(label, group, probability),), energy=energy, quality=FINE, **fields)


BAD = Recognition(code="truncated", detail="cut short")


def decided(*images, policy=None, category=None, classifier=CLASSIFIER, tagger=None):
    decision = Decider(classifier, tagger, policy or Policy()).decide(images, category)
    return decision.decision, [reason.code for reason in decision.reasons]


@pytest.mark.parametrize(
    ("images", "category", "expected"),
    [
        ([shown()], None, ("accept", [])),
        ([shown(probability=0.8)], None, ("accept", [])),
        ([shown(probability=0.79)], None, ("review", ["unsure"])),
        ([shown("lamp", 0.999)], None, ("review", ["unsure"])),
        ([shown("bowl", 0.9)], None, ("review", ["unsure"])),
        ([shown("bowl", 0.95)], None, ("accept", [])),
        ([shown(energy=-2.9)], None, ("review", ["unknown_product"])),
        ([shown()], "Mug ", ("accept", [])),
        ([shown()], "KITCHEN", ("accept", [])),
        ([shown()], "garden", ("review", ["category_mismatch"])),
        ([shown(group=None)], "kitchen", ("review", ["category_mismatch"])),
        ([BAD], None, ("reject", ["truncated"])),
        ([BAD, BAD], "mug", ("reject", ["truncated", "truncated"])),
        ([shown(), BAD], None, ("review", ["truncated"])),
        ([Recognition(code="fetch_failed", detail="down")], None, ("review", ["fetch_failed"])),
        ([Recognition(code="fetch_failed", detail="down"), BAD], None, ("review", ["fetch_failed", "truncated"])),
        ([shown(), shown("bowl", 0.96)], None, ("review", ["images_disagree"])),
        ([shown(), shown("bowl", 0.5)], None, ("accept", [])),
        ([shown(), shown("bowl", 0.96, energy=0)], None, ("review", ["unknown_product", "images_disagree"])),
        ([shown(probability=0.3), shown(probability=0.85)], None, ("accept", [])),
    ],
)
def test_listings_are_decided_by_their_surest_image(images, category, expected):
    assert decided(*images, category=category) == expected


PHOTOS = {
    "too_small": {"short_side": 159},
    "blurred": {"sharpness": 0.0},
    "too_dark": {"darkness": 1.0},
    "overexposed": {"blown": 0.5},
    "low_contrast": {"contrast": 0.0},
    "long_side": {"aspect": 9.0},
    "wide_border": {"border": 0.9},
    "blank": {"blank": 1.0},
}


@pytest.mark.parametrize("code", PHOTOS)
def test_each_fault_of_a_photo_is_told_with_a_hint_and_can_be_switched_off(code):
    image = replace(shown(), quality=FINE._replace(**PHOTOS[code]))
    decision = Decider(CLASSIFIER, None, Policy()).decide([image])
    assert decision.decision == ("reject" if code == "blank" else "review")
    assert [reason.code for reason in decision.reasons] == [code]
    assert decision.reasons[0].hint
    assert decision.reasons[0].image == 0
    assert decided(image, policy=Policy(photo={code: {"action": "off"}})) == ("accept", [])


def test_packshots_are_white_and_end_straight():
    packshot = replace(shown(), quality=FINE._replace(blown=0.6, border=0.3, white_background=0.95))
    assert decided(packshot) == ("accept", [])


def test_rules_that_are_off_at_first():
    several = shown(tags=(Tag("cup", 0.9, (0, 0, 9, 9)), Tag("cup", 0.8, (10, 0, 19, 9))))
    assert decided(several, tagger=TAGGER) == ("accept", [])
    assert decided(several, tagger=TAGGER, policy=Policy(several_products="review")) == ("review", ["several_products"])
    assert decided(several, tagger=TAGGER, policy=Policy(several_products="review", most_products=2)) == ("accept", [])
    assert decided(shown(), tagger=TAGGER, policy=Policy(nothing_found="reject")) == ("reject", ["nothing_found"])
    assert decided(shown(), policy=Policy(photo={"background_not_white": {"action": "review"}})) == ("review", ["background_not_white"])


def test_without_thresholds_or_classifier():
    plain = CLASSIFIER.model_copy(update={"acceptance": None})
    assert decided(shown(), classifier=plain, category="garden") == ("review", ["not_calibrated"])
    tags = Recognition(600, 720, "aa", 1, tags=(Tag("cup", 0.9, (0, 0, 9, 9)),), quality=FINE)
    assert decided(tags, classifier=None, tagger=TAGGER) == ("accept", [])
    never = ACCEPTANCE.model_copy(update={"threshold": None})
    assert decided(shown(probability=1.0), classifier=CLASSIFIER.model_copy(update={"acceptance": never})) == ("review", ["unsure"])


def test_thresholds_of_whole_listings_accept_no_part_of_one():
    fused = CLASSIFIER.model_copy(update={"model": CLASSIFIER.model.model_copy(update={"fuse": "mean"})})
    assert decided(shown(), classifier=fused) == ("accept", [])
    for classifier, told in ((fused, ("review", ["part_of_listing"])), (CLASSIFIER, ("accept", []))):
        decision = Decider(classifier, None, Policy()).decide([shown()], is_whole=False)
        assert (decision.decision, [reason.code for reason in decision.reasons]) == told


def test_what_is_not_a_number_is_never_accepted():
    nan = float("nan")
    assert decided(shown(probability=nan)) == ("review", ["unsure"])
    assert decided(shown(energy=nan)) == ("review", ["unknown_product"])
    assert decided(replace(shown(), quality=FINE._replace(sharpness=nan))) == ("review", ["blurred"])


def test_a_limit_that_is_off_changes_no_other_rule():
    image = replace(shown(), quality=FINE._replace(blown=0.6))
    policy = Policy(photo={"background_not_white": {"limit": 0}})
    assert decided(image, policy=policy) == decided(image) == ("review", ["overexposed"])


def test_the_order_of_a_policys_lines_says_nothing():
    one, other = Policy(categories={"a": "x", "b": "y"}), Policy(categories={"b": "y", "a": "x"})
    assert one.policy_id == other.policy_id


def test_the_sellers_words_for_categories():
    assert decided(shown(), category="becher ", policy=Policy(categories={"Becher": "mug"})) == ("accept", [])
    assert decided(shown(), category="  ") == ("accept", [])
    assert decided(shown(), category="Becher", policy=Policy(categories={"Becher": "mug"})) == ("accept", [])


def test_policies_are_read_from_yaml_and_named_by_their_content(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("unsure: off\nphoto: {blurred: {action: reject}, too_small: {limit: 700}}\n")
    policy = load_policy(str(file))
    assert (policy.unsure, policy.photo.blurred.action, policy.photo.too_small.limit) == ("off", "reject", 700)
    assert policy.photo.blurred.limit == Policy().photo.blurred.limit
    assert policy.photo.too_small.action == "review"
    assert policy.policy_id != Policy().policy_id == load_policy(None).policy_id
    assert decided(shown(probability=0.1), policy=policy) == ("review", ["too_small"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "not YAML"),
        ("- a", "holds no policy"),
        ("blurry: off", "unknown key 'blurry'; valid here: unsure"),
        ("photo: {blur: {limit: 1}}", "unknown key 'photo.blur'; valid here: too_small"),
        ("photo: {blurred: {limits: 1}}", "unknown key 'photo.blurred.limits'; valid here: action, limit"),
        ("unsure: maybe", "unsure"),
        ("photo: {blurred: {limit: .nan}}", "photo.blurred.limit"),
        ("photo: {blurred: 3}", "photo.blurred"),
    ],
)
def test_bad_policies_are_one_clear_line(tmp_path, text, told):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_policy(str(tmp_path / "p.yaml"))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
