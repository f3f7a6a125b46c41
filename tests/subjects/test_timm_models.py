"""Models of timm by name: weights, classes, and the preprocessing that timm itself would do."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights

timm = pytest.importorskip("timm")

from cardgen.errors import CardgenError  # noqa: E402
from cardgen.subjects import extras  # noqa: E402
from cardgen.subjects.models import check_fit, load_model  # noqa: E402
from cardgen.subjects.preprocess import EXAMPLE, parse_preprocess  # noqa: E402
from cardgen.subjects.timm_models import timm_preprocess  # noqa: E402

TINY = "test_resnet"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CONFIG = {"input_size": (3, 96, 96), "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", **IMAGENET}


def refusal(name: str, **options) -> str:
    with pytest.raises(CardgenError) as caught:
        load_model(f"timm:{name}", **options)
    return str(caught.value)


@pytest.fixture
def pretrained(monkeypatch):
    """timm without its downloads: pretrained models are made with weights of 0.5."""
    create = timm.create_model

    def made(name, pretrained=False, **options):
        model = create(name, **options)
        if pretrained:
            for parameter in model.parameters():
                torch.nn.init.constant_(parameter, 0.5)
        return model

    monkeypatch.setattr(timm, "create_model", made)


@pytest.mark.parametrize("size", [(211, 334), (334, 211), (96, 96), (50, 61)])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"crop_mode": "squash"},
        {"crop_pct": 1.0, "interpolation": "bilinear"},
        {"crop_pct": 0.95, "input_size": (3, 160, 160)},
        {"crop_mode": "squash", "crop_pct": 1.0, "input_size": (3, 64, 96)},
    ],
)
def test_inputs_are_timms_bit_for_bit(change, size) -> None:
    config = {**CONFIG, **change}
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    preprocess = timm_preprocess(config, "x")
    ours = preprocess.normalised(torch.from_numpy(preprocess.image(picture))[None])[0]
    assert torch.equal(ours, timm.data.create_transform(**config)(picture))


@pytest.mark.parametrize(
    "change", [{"crop_mode": "border"}, {"crop_mode": "border", "crop_pct": 1.0}, {"input_size": (3, 64, 128)}]
)
def test_other_ways_are_refused(change) -> None:
    with pytest.raises(CardgenError) as caught:
        timm_preprocess({**CONFIG, **change}, "timm:x")
    message = str(caught.value)
    assert message.startswith(
        "timm:x prepares pictures in a way of its own; expected resize, centre crop and normalisation (resize="
    )
    assert message.endswith(f"); say what comes nearest with {EXAMPLE}")


def test_untrained() -> None:
    model = load_model(f"timm:{TINY}", weights="none")
    assert (model.name, model.description) == (TINY, f"timm's {TINY} untrained")
    assert model.preprocess == parse_preprocess(
        "imagenet,resize=168,crop=160,mean=0.5/0.5/0.5,std=0.5/0.5/0.5,interpolation=bilinear"
    )
    assert model.classes == tuple(ResNet50_Weights.DEFAULT.meta["categories"])
    assert check_fit(model.module, torch.zeros(1, 3, 160, 160)) == 1000
    torch.rand(2)
    again = load_model(f"timm:{TINY}", weights="none")
    assert torch.equal(again.module.conv1[0].weight, model.module.conv1[0].weight)


def test_its_own_weights(pretrained) -> None:
    model = load_model(f"timm:{TINY}.r160_in1k")
    assert (model.name, model.description) == (f"{TINY}.r160_in1k", f"timm's {TINY}.r160_in1k with its own weights")
    assert float(model.module.fc.weight.detach().mean()) == 0.5
    assert len(load_model(f"timm:{TINY}", num_classes=1000).classes) == 1000
    assert refusal(TINY, num_classes=4) == (
        f"the weights of {TINY} have 1000 classes, not 4; expected the same number; leave --num-classes out, or give weights of a model "
        "with 4 classes by --weights FILE"
    )


def test_weights_from_a_file(tmp_path) -> None:
    trained = timm.create_model(TINY, num_classes=4)
    torch.save(trained.state_dict(), tmp_path / "best.pth")
    model = load_model(f"timm:{TINY}", weights=str(tmp_path / "best.pth"), num_classes=4, preprocess="size=64")
    assert torch.equal(model.module.fc.weight, trained.fc.weight)
    assert (model.description, model.classes) == (f"timm's {TINY} with weights from best.pth", ())
    assert model.preprocess == parse_preprocess("size=64")
    assert refusal(TINY, weights=str(tmp_path / "best.pth")).endswith("; pass --num-classes 4")


def test_label_names_of_the_weights(monkeypatch) -> None:
    create = timm.create_model

    def named(name, **options):
        model = create(name, num_classes=3)
        model.pretrained_cfg["label_names"] = ["ant", "bee", "cat"]
        return model

    monkeypatch.setattr(timm, "create_model", named)
    assert load_model(f"timm:{TINY}", weights="none").classes == ("ant", "bee", "cat")


def test_a_failed_download_says_how_to_go_on(monkeypatch) -> None:
    def fail(name, **options):
        raise ConnectionError("cannot reach the hub\nat all")

    monkeypatch.setattr(timm, "create_model", fail)
    assert refusal(TINY) == (
        f"timm:{TINY} could not be loaded: ConnectionError: cannot reach the hub; expected its weights on the Hugging Face hub or in its "
        "cache (HF_HOME sets the folder); fetch the file elsewhere and pass --weights FILE, or --weights none"
    )


def test_models_without_classes(monkeypatch) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, num_classes=0))
    assert refusal(TINY, weights="none") == (
        f"timm:{TINY} gives features, no classes; expected a classifier; take weights with a head, such as those tagged in1k"
    )


def test_unknown_names() -> None:
    assert refusal("test_resnett").startswith("no timm model is called 'test_resnett'; did you mean test_resnet or ")
    assert (
        refusal("test_resnet.in1k")
        == "no set of timm weights is called 'test_resnet.in1k'; did you mean test_resnet.r160_in1k?"
    )
    assert refusal(TINY, weights="IMAGENET1K_V1") == (
        f"weights 'IMAGENET1K_V1' of {TINY}; expected DEFAULT, none, or a file (.safetensors, .pt, .pth)"
    )


def test_without_timm(monkeypatch) -> None:
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(extras.importlib, "import_module", absent)
    assert refusal(TINY) == "timm is not installed; models called timm:NAME need it; run: pip install 'cardgen[timm]'"


def test_a_broken_installation_is_not_called_missing(monkeypatch) -> None:
    def broken(name):
        raise ModuleNotFoundError("No module named 'yaml'", name="yaml")

    monkeypatch.setattr(extras.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="yaml"):
        load_model(f"timm:{TINY}")
