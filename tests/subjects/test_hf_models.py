"""Image classifiers of transformers from local folders: weights, classes, and what their processors do to pictures."""

import json
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

from cardgen.errors import CardgenError  # noqa: E402
from cardgen.subjects.models import check_fit, load_model  # noqa: E402
from cardgen.subjects.preprocess import EXAMPLE, parse_preprocess  # noqa: E402

VIT = {
    "image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny vision transformer of three named classes, as save_pretrained leaves it, with a processor."""
    torch.manual_seed(3)
    names = {0: "ant", 1: "bee", 2: "cat"}
    config = transformers.ViTConfig(**VIT, id2label=names, label2id={name: i for i, name in names.items()})
    model = transformers.ViTForImageClassification(config)
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(tmp_path / "vit-tiny")
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained(tmp_path / "vit-tiny")
    return tmp_path / "vit-tiny"


def load(folder: Path, **options):
    return load_model(f"hf:{folder}", **options)


def refusal(folder: Path, **options) -> str:
    with pytest.raises(CardgenError) as caught:
        load(folder, **options)
    return str(caught.value).replace(str(folder), "FOLDER")


def test_a_local_folder(folder: Path) -> None:
    model = load(folder)
    assert (model.name, model.classes) == ("vit-tiny", ("ant", "bee", "cat"))
    assert model.description == "transformers' vit-tiny with its own weights"
    assert model.preprocess == parse_preprocess("size=32x32,mean=0.5/0.5/0.5,std=0.5/0.5/0.5")
    assert check_fit(model.module, torch.zeros(1, 3, 32, 32)) == 3
    theirs = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.module(x).logits, theirs(x).logits)


def test_reading_a_folder_shows_no_bar_and_leaves_the_setting_alone(folder: Path, capfd: pytest.CaptureFixture) -> None:
    transformers.utils.logging.enable_progress_bar()
    capfd.readouterr()
    load(folder)
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_half_precision_is_raised_to_float32(folder: Path) -> None:
    transformers.ViTForImageClassification.from_pretrained(folder).half().save_pretrained(folder)
    module = load(folder).module
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert check_fit(module, torch.zeros(1, 3, 32, 32)) == 3


def test_untrained_and_other_numbers_of_classes(folder: Path) -> None:
    model = load(folder, weights="none", num_classes=5)
    assert (model.classes, model.description) == ((), "transformers' vit-tiny untrained")
    assert check_fit(model.module, torch.zeros(1, 3, 32, 32)) == 5
    torch.rand(2)
    again = load(folder, weights="none", num_classes=5).module
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.module.parameters(), strict=True))
    assert load(folder, weights="none").classes == ("ant", "bee", "cat")
    assert refusal(folder, num_classes=5) == (
        "the weights of FOLDER have 3 classes, not 5; expected the same number; leave --num-classes out, or give weights of a model with 5 "
        "classes by --weights FILE"
    )


def test_weights_from_a_file(folder: Path, tmp_path: Path) -> None:
    trained = load(folder).module
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "w.pt")
    model = load(folder, weights=str(tmp_path / "w.pt"), preprocess="size=32")
    assert torch.equal(model.module.classifier.weight, trained.classifier.weight)
    assert model.description == "transformers' vit-tiny with weights from w.pt (its 'state_dict')"
    assert model.preprocess == parse_preprocess("size=32")


def test_a_head_that_was_never_trained_is_refused(folder: Path) -> None:
    transformers.ViTModel(transformers.ViTConfig(**VIT), add_pooling_layer=False).save_pretrained(folder)
    assert refusal(folder) == (
        "the weights of hf:FOLDER lack classifier.bias, classifier.weight; expected a classifier that was trained; take a model that was "
        "fine-tuned for classification"
    )


COLOURS = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3}
SAME = "mean=0.1/0.2/0.3,std=0.4/0.5/0.6,interpolation=bicubic"
CROP = {"crop_size": {"height": 64, "width": 64}}
PROCESSORS = {
    "convnext below 384": (
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 64}, "crop_pct": 0.875},
        "resize=73,crop=64",
    ),
    "convnext from 384": (
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 384}, "crop_pct": 0.875},
        "size=384x384",
    ),
    "bit": ("BitImageProcessor", {"size": {"shortest_edge": 72}, **CROP}, "resize=72,crop=64"),
    "deit": ("DeiTImageProcessor", {"size": {"height": 72, "width": 72}, **CROP}, "resize=72x72,crop=64"),
    "vit": ("ViTImageProcessor", {"size": {"height": 40, "width": 30}}, "size=40x30"),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_processors(name: str, folder: Path) -> None:
    kind, settings, expected = PROCESSORS[name]
    getattr(transformers, kind)(**settings, **COLOURS).save_pretrained(folder)
    assert load(folder).preprocess == parse_preprocess(f"{expected},{SAME}")
    getattr(transformers, kind)(**settings, **COLOURS, do_normalize=False).save_pretrained(folder)
    assert load(folder).preprocess == parse_preprocess(f"{expected},interpolation=bicubic")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("LevitImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}),
        ("ViTImageProcessor", {"size": {"height": 32, "width": 32}, "do_rescale": False}),
        ("MobileViTImageProcessor", {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}),
    ],
)
def test_processors_of_their_own_kind_are_refused(kind: str, settings: dict, folder: Path) -> None:
    getattr(transformers, kind)(**settings).save_pretrained(folder)
    message = refusal(folder)
    assert message.startswith(
        "hf:FOLDER prepares pictures in a way of its own; expected resize, centre crop and normalisation (resize="
    )
    assert message.endswith(f"); say what comes nearest with {EXAMPLE}")
    assert load(folder, preprocess="size=32").preprocess == parse_preprocess("size=32")


@pytest.mark.parametrize("settings", [{"size": {"shortest_edge": 64}}, {"do_resize": False}])
def test_processors_without_one_size_are_refused(settings: dict, folder: Path) -> None:
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    assert refusal(folder) == f"the preprocessing of hf:FOLDER is not known; expected it with the model; pass {EXAMPLE}"


def test_without_a_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    assert refusal(folder) == f"the preprocessing of hf:FOLDER is not known; expected it with the model; pass {EXAMPLE}"
    assert load(folder, preprocess="size=32").preprocess == parse_preprocess("size=32")


def test_a_failed_download_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name, **options):
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", fail)
    with pytest.raises(CardgenError) as caught:
        load_model("hf:google/vit-base-patch16-224")
    assert str(caught.value) == (
        "hf:google/vit-base-patch16-224 could not be loaded: OSError: We couldn't connect to the hub.; expected an image classifier on the "
        "Hugging Face hub, in its cache (HF_HOME sets the folder) or in a local folder; fetch it elsewhere and pass --model "
        "hf:path/to/folder"
    )


def test_folders_of_other_things(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert refusal(folder).startswith("hf:FOLDER could not be loaded: ")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert refusal(folder).startswith("hf:FOLDER could not be loaded: ")


def test_code_from_the_hub_is_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForImageClassification": "own.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert refusal(folder).startswith("hf:FOLDER could not be loaded: ValueError: ")
    assert not (tmp_path / "ran").exists()


def test_unnamed_classes(tmp_path: Path) -> None:
    transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, num_labels=4)).save_pretrained(tmp_path)
    assert load(tmp_path, preprocess="size=32").classes == ()
