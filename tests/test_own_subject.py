"""Own models on own data, from the command line to the card."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hostile_images import write_hostile
from photographs import CLASSES, taught, write_photographs
from PIL import Image
from safetensors.torch import save_file

from cardgen.cli import main
from cardgen.subjects.preprocess import parse_preprocess

PREPROCESS = "size=64x64,mean=0.485/0.456/0.406,std=0.229/0.224/0.225"
SMALL = "size=32x32,mean=0.485/0.456/0.406,std=0.229/0.224/0.225"
CHEAP = "pointing_game,localization_utility,model_weight_randomization,target_sensitivity,sparsity,completeness"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of 24 views of six photographs, with masks, in an otherwise empty working folder."""
    monkeypatch.chdir(tmp_path)
    return write_photographs(tmp_path / "photos")


def cardgen(*arguments):
    """A command in this process; its exit status and what it said."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def views(folder, text):
    """The photographs as a model takes them, and their classes."""
    preprocess = parse_preprocess(text)
    files = [(path, CLASSES.index(path.parent.name)) for name in CLASSES for path in sorted((folder / name).glob("*"))]
    images = torch.stack([torch.from_numpy(preprocess.image(Image.open(path))) for path, _ in files])
    return preprocess.normalised(images), torch.tensor([label for _, label in files])


def records(out="."):
    """Verdict and reason by method and metric, of methods that are no controls."""
    found = {}
    for path in Path(out).glob("evaluations/*/*/*.json"):
        record = json.loads(path.read_text())
        if path.name != "method.json":
            found[record["method"], record["metric"]] = (record["verdict"], record["reason"])
    return found


def test_resnet_50_with_weights_from_a_file(photos):
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet50(num_classes=6)
    save_file(taught(model, model.fc, *views(photos, PREPROCESS)).state_dict(), "trained.safetensors")
    arguments = (
        *("run", "--model", "resnet50", "--weights", "trained.safetensors", "--num-classes", 6),
        *("--preprocess", PREPROCESS, "--data", "photos", "--batch", 8),
        *("--methods", "vanilla_gradients,grad_cam", "--metrics", CHEAP),
    )
    status, said = cardgen(*arguments)
    assert status == 0, said
    assert "resnet50 on photos: 24 samples, accuracy 100.0%" in said
    assert "Methods of class activation take the layer layer4.2; --layer names another." in said
    assert "the model names no classes, so the data's" in said
    found = records()
    assert len(found) == 12
    assert not {"error", "skipped"} & {verdict for verdict, _ in found.values()}
    assert found["vanilla_gradients", "completeness"][0] == "fail"
    card = Path("cards/grad_cam/README.md").read_text(encoding="utf-8")
    line = next(line for line in card.splitlines() if "**[Pointing Game]" in line)
    assert re.search(r"share of maxima on the object.*n = 24 on resnet50-photos", line)
    assert "accuracy 1.00, 95 % interval" in card
    assert Path("cards/grad_cam/example.png").stat().st_size > 1000
    status, said = cardgen(*arguments)
    assert (status, "0 evaluations measured, 12 up to date" in said or "0 evaluations measured" in said) == (0, True)


def test_resnet_50_with_random_weights_is_at_chance_level(photos):
    status, said = cardgen(
        *("run", "--model", "resnet50", "--weights", "none", "--num-classes", 6, "--preprocess", PREPROCESS),
        *("--data", "photos", "--batch", 8, "--methods", "vanilla_gradients", "--metrics", "sparsity,deletion"),
    )
    assert status == 0, said
    found = records()
    assert {verdict for verdict, _ in found.values()} == {"skipped"}
    assert all(re.match(r"model at chance level \(accuracy 0\.\d+, n = 24\)", reason) for _, reason in found.values())
    assert Path("evaluations/resnet50-photos/vanilla_gradients/example.png").is_file()
    assert "skipped" in Path("cards/vanilla_gradients/README.md").read_text(encoding="utf-8")


def test_without_labels_the_health_is_unknown_and_verdicts_are_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photographs(tmp_path / "flat", flat=True)
    status, said = cardgen(
        *("run", "--model", "resnet50", "--weights", "none", "--preprocess", PREPROCESS, "--data", "flat"),
        *("--batch", 8, "--methods", "grad_cam", "--metrics", "pointing_game"),
    )
    assert status == 0, said
    assert "accuracy" not in said
    assert records()["grad_cam", "pointing_game"][0] in ("pass", "fail", "inconclusive")
    assert json.loads(Path("evaluations/resnet50-flat/subject.json").read_text())["health"] == "unknown"


NETWORKS = """
import torch
import torchvision


def vit(num_classes=6):
    torch.manual_seed(0)
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=num_classes)


def vgg(num_classes=6):
    torch.manual_seed(0)
    layers, channels = [], 3
    for width in (8, 8, "pool", 16, 16, "pool"):
        if width == "pool":
            layers.append(torch.nn.MaxPool2d(2))
        else:
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU(inplace=True)]
            channels = width
    head = torch.nn.Linear(16 * 8 * 8, num_classes)
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), head)


def black_box():
    model = vgg()
    model.load_state_dict(torch.load("vgg.pt", weights_only=True))
    return model.eval().forward
"""


@pytest.fixture
def networks(photos):
    """A file of networks that tell the photographs apart, with their weights in files."""
    Path("networks.py").write_text(NETWORKS)
    names = {}
    exec(NETWORKS, names)
    inputs, labels = views(photos, SMALL)
    for name, head in (("vit", lambda m: m.heads.head), ("vgg", lambda m: m[-1])):
        model = names[name]()
        torch.save(taught(model, head(model), inputs, labels).state_dict(), f"{name}.pt")
    return photos


def measured(name, *more):
    weights = ("--weights", f"{name}.pt") if name != "black_box" else ()
    return cardgen(
        *("run", "--model", f"networks.py:{name}", *weights, "--preprocess", SMALL, "--data", "photos", "--batch", 32),
        *more,
    )


def test_a_vision_transformer(networks):
    status, said = measured("vit", "--metrics", "pointing_game,determinism")
    assert status == 0, said
    found = records()
    skipped = {method: reason for (method, _), (verdict, reason) in found.items() if verdict == "skipped"}
    assert set(skipped) == {"grad_cam", "guided_backprop"}
    assert "layers on tokens" in skipped["grad_cam"]
    assert "GELU" in skipped["guided_backprop"]
    others = {method for method, _ in found} - set(skipped)
    assert len(others) == 6
    assert "error" not in {verdict for verdict, _ in found.values()}


def test_a_vgg_like_network_fits_every_core_method(networks):
    status, said = measured("vgg", "--metrics", "pointing_game,implementation_invariance,model_agnosticism")
    assert status == 0, said
    found = records()
    assert len({method for method, _ in found}) == 8
    assert not {"error", "skipped"} & {verdict for verdict, _ in found.values()}
    assert found["vanilla_gradients", "model_agnosticism"][1].startswith("Needs gradients and no layers")
    assert found["occlusion", "model_agnosticism"][1] == "Works on any model that gives outputs."
    assert found["guided_backprop", "model_agnosticism"][1].startswith("Needs the model's layers")


def test_a_function_is_a_black_box(networks):
    status, said = measured("black_box", "--metrics", "pointing_game,model_weight_randomization")
    assert status == 0, said
    found = records()
    assert found["occlusion", "pointing_game"][0] in ("pass", "fail", "inconclusive")
    assert found["rise", "model_weight_randomization"] == (
        "skipped",
        "needs the model's weights, and the model is a black box that gives only outputs",
    )
    needing = {
        method for (method, metric), (verdict, _) in found.items() if metric == "pointing_game" and verdict == "skipped"
    }
    assert needing == {
        *("vanilla_gradients", "input_x_gradient", "integrated_gradients", "smoothgrad", "guided_backprop", "grad_cam"),
    }
    assert found["vanilla_gradients", "pointing_game"][1] == (
        "needs the model's gradients, and the model is a black box that gives only outputs"
    )


def test_an_onnx_file_gives_the_maps_of_the_network_itself(networks):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    names = {}
    exec(NETWORKS, names)
    model = names["vgg"]()
    model.load_state_dict(torch.load("vgg.pt", weights_only=True))
    nodes, tensors, last = [], [], "input"
    for i, module in enumerate(model):
        made = {"Conv2d": "Conv", "ReLU": "Relu", "MaxPool2d": "MaxPool", "Flatten": "Flatten", "Linear": "Gemm"}
        kind, given = made[type(module).__name__], {}
        for name, value in module.state_dict().items():
            tensors.append(numpy_helper.from_array(value.numpy(), f"{name}{i}"))
        if kind == "Conv":
            given = {"pads": [1, 1, 1, 1]}
        elif kind == "MaxPool":
            given = {"kernel_shape": [2, 2], "strides": [2, 2]}
        elif kind == "Gemm":
            given = {"transB": 1}
        takes = [last, *([f"weight{i}", f"bias{i}"] if kind in ("Conv", "Gemm") else [])]
        nodes.append(helper.make_node(kind, takes, [f"out{i}"], **given))
        last = f"out{i}"
    shape = ["n", 3, 32, 32]
    graph = helper.make_graph(
        nodes,
        "vgg",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 6])],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "vgg.onnx")
    asked = (
        "--preprocess",
        SMALL,
        "--data",
        "photos",
        "--batch",
        32,
        "--methods",
        "occlusion",
        "--metrics",
        "deletion",
    )
    assert cardgen("run", "--model", "vgg.onnx", *asked, "--out", "onnx")[0] == 0
    assert measured("vgg", "--methods", "occlusion", "--metrics", "deletion", "--out", "torch")[0] == 0
    one, other = (
        json.loads(next(Path(out).glob("evaluations/*/occlusion/deletion.json")).read_text())
        for out in ("onnx", "torch")
    )
    assert one["estimate"] == pytest.approx(other["estimate"], abs=1e-3)
    assert one["verdict"] == other["verdict"]
    assert one["key"] != other["key"]


def test_a_folder_of_broken_odd_and_hostile_files_stops_the_run_and_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_hostile(tmp_path / "hostile")
    status, said = cardgen(
        *("run", "--model", "resnet50", "--weights", "none", "--preprocess", PREPROCESS, "--data", "hostile"),
        *("--batch", 8, "--methods", "grad_cam", "--metrics", "sparsity"),
    )
    assert status == 2
    assert re.search(
        r"error: \d+ pictures could not be read: .*; expected at most \d+ of \d+; mend or remove them", said
    )
    assert not Path("evaluations").exists()


def test_a_few_broken_images_are_told_and_others_take_their_place(photos):
    for name in ("cat/cat-0.png", "cup/cup-1.png"):
        (photos / name).write_bytes((photos / name).read_bytes()[:2000])
    status, said = cardgen(
        *(
            "run",
            "--model",
            "resnet50",
            "--weights",
            "none",
            "--num-classes",
            6,
            "--preprocess",
            PREPROCESS,
            "--force-unhealthy",
        ),
        *("--data", "photos", "--batch", 8, "--methods", "grad_cam", "--metrics", "sparsity"),
    )
    assert status == 0, said
    assert re.search(r"2 of 24 pictures could not be read: .*cat-0.png", said)
    assert json.loads(Path("evaluations/resnet50-photos/subject.json").read_text())["n"] == 22


def test_a_plan_without_writing_anything(photos):
    before = sorted(photos.parent.iterdir())
    status, said = cardgen(
        *("plan", "--model", "resnet50", "--weights", "none", "--num-classes", 6, "--preprocess", PREPROCESS),
        *("--data", "photos", "--batch", 8, "--methods", "grad_cam", "--force-unhealthy"),
    )
    assert status == 0, said
    assert "Nothing was written." in said
    assert "samples a second, at most about" in said
    assert sorted(photos.parent.iterdir()) == before


def test_no_module_of_the_user_s_stays_behind(networks):
    measured("vgg", "--methods", "grad_cam", "--metrics", "sparsity")
    assert "networks" not in sys.modules
