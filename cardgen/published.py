"""Published verdicts and Table A1 in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping

from cardgen.literature import PublishedVerdict, TableRow
from cardgen.words import listing, number, seconds

REFERENCES = {
    "random_baseline": "a random baseline",
    "random_model": "a randomised model",
    "center_baseline": "the image's centre",
    "average_map": "the average map",
    "segmentation_model": "a segmentation model",
    "human_benchmark": "people",
    "sliding_window": "sliding-window occlusion",
    "baseline": "a reference",
    "base_method": "the base method",
    "smoothed_methods": "smoothed methods",
    "other_methods": "other methods",
    "ablation_cam": "Ablation-CAM",
    "cam": "CAM",
    "deconvnet": "DeconvNet",
    "deeplift": "DeepLIFT",
    "eigen_cam": "Eigen-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "guided_grad_cam": "Guided Grad-CAM",
    "lrp": "LRP",
    "score_cam": "Score-CAM",
    "smoothgrad_squared": "SmoothGrad-Squared",
    "vargrad": "VarGrad",
}
ACCESS = {
    "gradients": "Needs gradients.",
    "gradients_and_conv_layer": "Needs gradients and a convolutional layer.",
    "inherited": "Needs what its base method needs.",
    "black_box": "Needs the model's outputs only.",
}
DETERMINISM = {
    "deterministic": "Deterministic.",
    "conditional": "Deterministic under a condition.",
    "non_deterministic": "Not deterministic.",
}


def published_sentence(verdict: PublishedVerdict, names: Mapping[str, str]) -> str:
    """The summary, and in brackets what was looked at and compared with."""
    parts = ["guaranteed by the algorithm"] if verdict.kind == "proven" else []
    if verdict.evaluated_on.data:
        parts.append(f"on {listing(verdict.evaluated_on.data)}")
    if verdict.evaluated_on.models:
        parts.append(f"with {listing(verdict.evaluated_on.models)}")
    if verdict.compared_with:
        parts.append(f"against {listing(_name(key, names) for key in verdict.compared_with)}")
    return f"{verdict.summary.rstrip('.')} ({'; '.join(parts)})." if parts else verdict.summary


def _name(key: str, names: Mapping[str, str]) -> str:
    if key.endswith("_smoothgrad") and key.removesuffix("_smoothgrad") in names:
        return f"{names[key.removesuffix('_smoothgrad')]} with SmoothGrad"
    return REFERENCES.get(key) or names.get(key) or key.replace("_", " ")


def table_sentences(row: TableRow) -> dict[str, str]:
    """Attribute → what Table A1 says of it."""
    return {
        "determinism": _join(DETERMINISM[row.determinism], row.determinism_note),
        "hyperparameter_dependence": f"Hyperparameters: {listing(_words(row.hyperparameters))}."
        if row.hyperparameters
        else "No hyperparameters.",
        "model_agnosticism": _join(ACCESS[row.model_access], row.model_access_note),
        "computational_efficiency": _cost(row),
        "semantic_directness": row.semantic_meaning,
    }


def _cost(row: TableRow) -> str:
    setting = row.timing_setting
    texts = []
    if row.seconds_order_of_magnitude is not None:
        texts.append(f"about {seconds(row.seconds_order_of_magnitude)} a map")
    if row.time_factor is not None:
        texts.append(f"about {number(row.time_factor)} times its base method")
    for variant in row.timing_variants:
        order = variant.seconds_order_of_magnitude
        taken = variant.note if order is None else f"about {seconds(order)} a map"
        texts.append(f"{variant.variant.replace('_', ' ')}: {taken}")
    if not texts:
        return "Not timed."
    where = f"{setting.model}, {setting.input} {setting.data} image, {setting.hardware}"
    text = f"{'; '.join(texts)} ({where}; implementation: {setting.implementation})."
    return text[0].upper() + text[1:]


def _join(first: str, note: str) -> str:
    return f"{first} {note}".strip()


def _words(keys: tuple[str, ...]) -> list[str]:
    return [key.replace("_", " ") for key in keys]
