"""Models by name: torchvision's, with the weights they ask for; and whether any model fits."""

import functools
import hashlib
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.models import Weights, WeightsEnum
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from cardgen.errors import CardgenError
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.models import check_fit, load_model
from cardgen.subjects.preprocess import parse_preprocess

OTHERS = "or timm:NAME, hf:NAME, path/to/file.py:function, package.module:function, file.onnx"


def refusal(name: str, **options) -> str:
    with pytest.raises(CardgenError) as caught:
        load_model(name, **options)
    return str(caught.value)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return models.resnet18(weights=None, num_classes=4).eval()


class TestTorchvision:
    def test_untrained(self):
        before = torch.random.get_rng_state()
        model = load_model("squeezenet1_1", weights="none")
        assert torch.equal(torch.random.get_rng_state(), before)
        assert model.name == "squeezenet1_1"
        assert model.description == "torchvision's squeezenet1_1 untrained, preprocessed as for IMAGENET1K_V1"
        assert model.preprocess == parse_preprocess("imagenet")
        assert model.classes[:2] == ("tench", "goldfish")
        assert len(model.classes) == 1000
        assert not model.module.training
        torch.rand(3)
        assert same(load_model("squeezenet1_1", weights="none").module, model.module)
        assert not same(models.squeezenet1_1(weights=None), model.module)

    def test_weights_from_a_file(self, resnet, tmp_path):
        torch.save(resnet.state_dict(), tmp_path / "mine.pth")
        model = load_model("resnet18", weights=str(tmp_path / "mine.pth"), num_classes=4)
        assert same(model.module, resnet)
        assert (
            model.description == "torchvision's resnet18 with weights from mine.pth, preprocessed as for IMAGENET1K_V1"
        )
        assert model.classes == ()
        own = load_model("resnet18", weights=str(tmp_path / "mine.pth"), num_classes=4, preprocess="unit,size=32")
        assert own.description == "torchvision's resnet18 with weights from mine.pth"
        assert own.preprocess == parse_preprocess("size=32")
        assert check_fit(own.module, torch.zeros(1, 3, 32, 32)) == 4
        assert refusal("resnet18", weights=str(tmp_path / "mine.pth")).endswith("; pass --num-classes 4")

    @pytest.fixture
    def made_up(self, resnet, tmp_path, monkeypatch):
        """Two sets of weights, as torchvision would describe them; the first is the file of `resnet`."""
        torch.save(resnet.state_dict(), tmp_path / "copy.pth")
        begin = hashlib.sha256((tmp_path / "copy.pth").read_bytes()).hexdigest()[:8]
        crops = {
            size: functools.partial(ImageClassification, crop_size=size, resize_size=2 * size) for size in (32, 64)
        }
        categories = {"categories": ["a", "b", "c", "d"]}

        class MadeUp(WeightsEnum):
            OLD = Weights(
                f"http://x/resnet18-{begin}.pth",
                functools.partial(crops[32], interpolation=InterpolationMode.BICUBIC),
                categories,
            )
            NEW = Weights("http://x/resnet18-00000000.pth", crops[64], categories)
            FEATURES = Weights("http://x/features-11111111.pth", crops[64], {"categories": None})
            DEFAULT = NEW

        monkeypatch.setattr(models, "get_model_weights", lambda name: MadeUp)
        return tmp_path / "copy.pth"

    def test_a_file_of_torchvisions_own_is_recognised(self, made_up, resnet, tmp_path):
        model = load_model("resnet18", weights=str(made_up), num_classes=4)
        assert model.description == "torchvision's resnet18 with weights from copy.pth, preprocessed as for OLD"
        assert model.preprocess == parse_preprocess("imagenet,resize=64,crop=32,interpolation=bicubic")
        torch.save({"model": resnet.state_dict()}, tmp_path / "other.pth")
        other = load_model("resnet18", weights=str(tmp_path / "other.pth"), num_classes=4)
        assert other.description.endswith("other.pth (its 'model'), preprocessed as for NEW")
        assert other.preprocess.crop == (64, 64)

    def test_names_of_weights(self, made_up):
        assert (
            refusal("resnet18", weights="NEWER")
            == "no set of weights for resnet18 is called 'NEWER'; did you mean NEW?; or a file"
        )
        assert refusal("resnet18", weights="FEATURES").startswith(
            "no set of weights for resnet18 is called 'FEATURES'; "
        )
        assert refusal("resnet18", num_classes=5) == (
            "the weights of resnet18 have 4 classes, not 5; expected the same number; leave --num-classes out, or give weights of a model "
            "with 5 classes by --weights FILE"
        )

    @pytest.mark.parametrize("weights", [None, "DEFAULT", "IMAGENET1K_V1"])
    def test_a_failed_download_says_where_the_file_goes(self, weights, monkeypatch, tmp_path):
        def fail(*arguments, **options):
            raise urllib.error.URLError("no network")

        monkeypatch.setattr(torch.hub, "urlopen", fail)
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        assert refusal("resnet18", weights=weights) == (
            "weights IMAGENET1K_V1 of resnet18 could not be loaded: URLError: <urlopen error no network>; expected "
            f"https://download.pytorch.org/models/resnet18-f37072fd.pth or a copy of it in {tmp_path / 'checkpoints'} (TORCH_HOME sets the "
            "folder); fetch the file elsewhere and put it there, or pass --weights FILE"
        )

    def test_a_copy_of_the_download_is_used_and_a_damaged_one_named(self, monkeypatch, tmp_path):
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        (tmp_path / "checkpoints").mkdir()
        trained = models.resnet18(weights=None)
        torch.save(trained.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
        model = load_model("resnet18")
        assert same(model.module, trained)
        assert model.description == "torchvision's resnet18 with weights IMAGENET1K_V1"
        (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"cut")
        assert refusal("resnet18").startswith("weights IMAGENET1K_V1 of resnet18 could not be loaded: ")

    def test_the_size_of_vision_transformers_is_that_of_their_weights(self, monkeypatch):
        asked = {}
        monkeypatch.setattr(models, "get_model", lambda name, **options: asked.update(options) or nn.Identity())
        assert load_model("vit_h_14", weights="none", num_classes=7).preprocess.crop == (518, 518)
        assert asked == {"weights": None, "num_classes": 7, "image_size": 518}

    def test_hidden_input_transforms_are_not_guessed(self, tmp_path, monkeypatch):
        torch.save({}, tmp_path / "w.pth")
        module = nn.Identity()
        module.transform_input = False
        monkeypatch.setattr(models, "get_model", lambda name, **options: module)
        assert refusal("googlenet", weights=str(tmp_path / "w.pth")) == (
            f"{tmp_path / 'w.pth'} does not say whether inputs of googlenet are transformed first; expected this with the weights; write a "
            "function that builds the model (path/to/file.py:function), or put torchvision's own file where its download would lie"
        )

    def test_unknown_names(self):
        assert (
            refusal("resnt50")
            == f"no model is called 'resnt50'; did you mean resnet50 or resnet152 or resnet101?; {OTHERS}"
        )
        assert refusal("fcn_resnet50").startswith("no model is called 'fcn_resnet50'; did you mean ")
        assert refusal("model.py") == (
            "model.py names no function; expected path/to/file.py:function; add the function that returns the model"
        )

    def test_every_set_of_weights_is_understood(self):
        from cardgen.subjects.torchvision_models import _preprocess

        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (97, 130, 3), dtype=np.uint8))
        seen = set()
        for name in models.list_models(module=models):
            for weights in models.get_model_weights(name):
                made, transforms = _preprocess(weights), weights.transforms()
                if made.text not in seen and made.crop[0] < 300:
                    ours = made.normalised(torch.from_numpy(made.image(picture))[None])[0]
                    assert torch.equal(ours, transforms(picture)), weights
                seen.add(made.text)
        assert len(seen) > 20


class Scores(nn.Module):
    """A model whose scores are a function of its inputs."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class TestCheckFit:
    def test_number_of_classes_and_nothing_changed(self):
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)
        ).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        assert check_fit(model, torch.zeros(1, 3, 8, 8)) == 6
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert check_fit(BlackBox(lambda x: np.zeros((len(x), 5))), torch.zeros(1, 3, 8, 8)) == 5

    def test_dicts_with_scores(self):
        assert (
            check_fit(Scores(lambda x: {"logits": x.sum((2, 3)), "other": x.sum((2, 3))}), torch.ones(1, 3, 8, 8)) == 3
        )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
    def test_types(self, dtype):
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).to(dtype)
        assert check_fit(model, torch.full((1, 3, 2, 2), 0.1, dtype=dtype)) == 2

    def message(self, function, example=None) -> str:
        with pytest.raises(CardgenError) as caught:
            check_fit(Scores(function), torch.full((1, 3, 2, 2), 0.25) if example is None else example)
        return str(caught.value)

    def test_one_score(self):
        assert self.message(lambda x: x.sum((1, 2, 3))[:, None]) == (
            "the model gives one score a sample, whose softmax is always 1; expected a logit for each of at least 2 classes; for a "
            "sigmoid's score s return torch.cat([torch.zeros_like(s), s], 1)"
        )
        assert self.message(lambda x: x.sum((1, 2, 3))).startswith(
            "the model returned (1,); expected logits of shape (1, classes); "
        )

    def test_not_finite(self):
        expected = "the model gives NaN or infinities in float32; expected finite scores; check its weights"
        assert self.message(lambda x: x.sum((2, 3)) * torch.nan) == expected
        assert self.message(lambda x: x.sum((2, 3)) / 0) == expected
        overflow = self.message(lambda x: x.sum((2, 3)) * 1e5, torch.ones(1, 3, 2, 2).half())
        assert overflow == expected.replace("float32", "float16") + ", or choose float32 (--dtype)"

    def test_probabilities(self):
        assert self.message(lambda x: x.sum((2, 3)).softmax(1)) == (
            "the model gives probabilities; expected logits, before the softmax; leave the softmax out, or return "
            "torch.log(p.clamp_min(1e-12))"
        )
        assert check_fit(Scores(lambda x: x.sum((2, 3)).log_softmax(1)), torch.ones(1, 3, 2, 2)) == 3
        assert check_fit(Scores(lambda x: x.sum((2, 3)).sigmoid()), torch.ones(1, 3, 2, 2)) == 3

    def test_scores_that_depend_on_the_batch(self):
        expected = (
            "the model scores a sample differently when another is in its batch; expected each to be scored by itself; use batch "
            "normalisation with running statistics, and nothing that mixes samples"
        )
        assert self.message(lambda x: x.sum((2, 3)) - x.sum((2, 3)).mean(0)) == expected
        norm = nn.BatchNorm2d(3, track_running_stats=False)
        assert self.message(lambda x: norm(x).sum((2, 3)) + x.sum((2, 3))) == expected

    def test_only_one_sample_at_a_time(self):
        assert self.message(lambda x: x.reshape(1, -1)[:, :3]).startswith(
            "the model returned (1, 3); expected logits of shape (2, classes); "
        )

    def test_inputs_that_it_cannot_take(self, as_users_run):
        conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
        with pytest.raises(CardgenError) as caught:
            check_fit(conv, torch.zeros(1, 3, 8, 9))
        message = str(caught.value)
        assert message.startswith(
            "the model cannot take 1 inputs of 3 × 8 × 9 (channels, height, width) in float32: RuntimeError: Given groups=1, "
        )
        assert message.endswith("; expected one row of scores each; check size and channels (--preprocess)")

    def test_a_type_without_kernels(self):
        def half(x):
            raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'\nmore")

        assert self.message(half, torch.zeros(1, 3, 2, 2).half()) == (
            'the model cannot take 1 inputs of 3 × 2 × 2 (channels, height, width) in float16: RuntimeError: "slow_conv2d_cpu" not '
            "implemented for 'Half'; expected one row of scores each; check size and channels (--preprocess) and type (--dtype)"
        )

    def test_running_out_of_memory_is_not_a_misfit(self):
        def full(x):
            raise torch.OutOfMemoryError("full")

        with pytest.raises(torch.OutOfMemoryError):
            check_fit(Scores(full), torch.zeros(1, 3, 2, 2))

    def test_what_a_box_says_comes_through(self):
        with pytest.raises(CardgenError, match=r"^the black box returned list; "):
            check_fit(BlackBox(lambda x: [1]), torch.zeros(1, 3, 2, 2))


class TestOnnx:
    def test_what_cannot_be_said_of_a_file(self, tmp_path):
        file = str(tmp_path / "net.onnx")
        assert refusal(file) == (
            f"the preprocessing of {file} is not known; expected it with the model; pass --preprocess imagenet, or --preprocess "
            "size=224,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"
        )
        for options in ({"weights": "none"}, {"num_classes": 3}):
            assert refusal(file, preprocess="imagenet", **options) == (
                f"{file} holds weights and classes itself; expected no --weights, no --num-classes; leave them out"
            )
        assert refusal(file, preprocess="imagenet") == f"{file}: no such file; expected an ONNX model; mend the path"

    def test_a_file(self, tmp_path):
        from test_black_box import write

        write(tmp_path / "my net.onnx", shape=("n", 3, 4, 5))
        model = load_model(str(tmp_path / "my net.onnx"), preprocess="size=4x5")
        assert (model.name, model.description, model.classes) == ("my-net", "the ONNX file my net.onnx", ())
        assert isinstance(model.module, BlackBox)
        assert check_fit(model.module, torch.full((1, 3, 4, 5), 0.5)) == 2
