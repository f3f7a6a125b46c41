"""Black boxes: functions and ONNX files give the scores they give, for any batch, and nothing else."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cardgen.errors import CardgenError
from cardgen.subjects import extras
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.onnx_model import onnx_model
from cardgen.weights import weights_digest

FLOAT = TensorProto.FLOAT


def linear(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x.flatten(1).sum(1), 2 * x.flatten(1).sum(1)], 1)


class TestBlackBox:
    def test_scores_of_tensors_and_arrays(self):
        x = torch.rand(3, 1, 2, 2)
        assert torch.equal(BlackBox(linear)(x), linear(x))
        assert torch.equal(BlackBox(lambda x: linear(x).numpy())(x), linear(x))
        assert torch.equal(BlackBox(lambda x: linear(x).numpy()[:, ::-1])(x), linear(x).flip(1))

    def test_no_gradients_and_no_parameters(self):
        weight = torch.ones(2, requires_grad=True)
        seen = []

        def function(x):
            seen.append(x.requires_grad)
            return linear(x) * weight

        box = BlackBox(function)
        scores = box(torch.rand(2, 1, 2, 2, requires_grad=True))
        assert not scores.requires_grad
        assert seen == [False]
        assert not list(box.parameters())
        assert not box.state_dict()

    def test_the_digest_is_that_of_the_identity(self):
        assert weights_digest(BlackBox(linear, "a")) == weights_digest(BlackBox(torch.sin, "a"))
        assert weights_digest(BlackBox(linear, "a")) != weights_digest(BlackBox(linear, "b"))

    @pytest.mark.parametrize(
        ("returned", "kind"),
        [
            ([[1.0, 2.0]], "list"),
            (None, "NoneType"),
            (np.array([["cat", "dog"]]), "an array of <U3"),
            (np.array([[object(), 1]]), "an array of object"),
        ],
    )
    def test_other_things_are_refused(self, returned, kind, as_users_run):
        with pytest.raises(CardgenError) as caught:
            BlackBox(lambda x: returned)(torch.zeros(1, 1, 1, 1))
        assert str(caught.value) == (
            f"the black box returned {kind}; expected a tensor or array of scores [n, classes]; return these, the classes' logits, and "
            f"nothing else"
        )


def write(file: Path, shape=("n", 3, 4, 5), kind=FLOAT, outputs=("y",), inputs=("x",), weight=None) -> torch.Tensor:
    """An ONNX file of flatten and a matrix product, opset 13; the matrix [3·4·5, 2] is returned."""
    weight = torch.linspace(-1, 1, 120).view(60, 2) if weight is None else weight
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], [outputs[0]])]
    nodes += [helper.make_node("Neg", [outputs[0]], [name]) for name in outputs[1:]]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info(name, kind, [shape[0], 2]) for name in outputs],
        [numpy_helper.from_array(weight.numpy().astype(dtype), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, file)
    return weight


class TestOnnx:
    @pytest.mark.parametrize("batch", ["n", 1, 2, 4])
    @pytest.mark.parametrize("n", [1, 3, 4])
    def test_scores_whatever_batch_the_file_fixes(self, batch, n, tmp_path):
        weight = write(tmp_path / "m.onnx", shape=(batch, 3, 4, 5))
        x = torch.rand(n, 3, 4, 5, generator=torch.Generator().manual_seed(0))
        scores = onnx_model(tmp_path / "m.onnx")(x)
        assert scores.shape == (n, 2)
        assert torch.allclose(scores, x.flatten(1) @ weight, atol=1e-5)

    @pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_inputs_are_converted(self, kind, dtype, tmp_path):
        weight = write(tmp_path / "m.onnx", kind=kind)
        x = torch.full((1, 3, 4, 5), 0.5, dtype=dtype)
        assert torch.allclose(onnx_model(tmp_path / "m.onnx")(x).float(), weight.sum(0)[None] / 2, atol=2e-2)

    def test_an_exported_network(self, tmp_path):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
        ).eval()
        nodes = [
            helper.make_node("Conv", ["x", "cw", "cb"], ["c"]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "hw", "hb"], ["y"], transB=1),
        ]
        values = {"cw": net[0].weight, "cb": net[0].bias, "hw": net[4].weight, "hb": net[4].bias}
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", FLOAT, ["n", 3, "h", "w"])],
            [helper.make_tensor_value_info("y", FLOAT, ["n", 5])],
            [numpy_helper.from_array(value.detach().numpy(), name) for name, value in values.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        onnx.save(model, tmp_path / "m.onnx")
        x = torch.randn(4, 3, 9, 8)
        assert torch.allclose(onnx_model(tmp_path / "m.onnx")(x), net(x), atol=1e-5)

    def test_logits_among_outputs(self, tmp_path):
        weight = write(tmp_path / "m.onnx", outputs=("features", "logits"))
        x = torch.rand(2, 3, 4, 5)
        assert torch.allclose(onnx_model(tmp_path / "m.onnx")(x), -(x.flatten(1) @ weight), atol=1e-5)

    def test_the_digest_follows_the_file_and_the_weights_beside_it(self, tmp_path):
        write(tmp_path / "a.onnx")
        write(tmp_path / "b.onnx", weight=torch.zeros(60, 2))
        a, b = (weights_digest(onnx_model(tmp_path / name)) for name in ("a.onnx", "b.onnx"))
        assert a != b
        assert weights_digest(onnx_model(tmp_path / "a.onnx")) == a
        (tmp_path / "a.onnx.data").write_bytes(b"weights")
        assert weights_digest(onnx_model(tmp_path / "a.onnx")) != a

    def message(self, file: Path, inputs=None) -> str:
        with pytest.raises(CardgenError) as caught:
            onnx_model(file)(torch.zeros(1, 3, 4, 5) if inputs is None else inputs)
        return str(caught.value).replace(str(file), "FILE")

    def test_other_sides_are_refused(self, tmp_path):
        write(tmp_path / "m.onnx")
        assert self.message(tmp_path / "m.onnx", torch.zeros(1, 3, 5, 4)) == (
            "FILE takes inputs ['n', 3, 4, 5]; got [1, 3, 5, 4]; expected the same channels and sides; set the sides with --preprocess, "
            "the order of the axes with a function around it: path/to/file.py:function"
        )

    def test_files_that_are_not_images_to_scores(self, tmp_path):
        wrap = "write a function around it instead: path/to/file.py:function"
        file = tmp_path / "m.onnx"
        write(file, inputs=("x", "size"))
        assert self.message(file) == (
            f"FILE takes x ['n', 3, 4, 5] tensor(float); size ['n', 3, 4, 5] tensor(float); expected one float input "
            f"[n, channels, h, w]; {wrap}"
        )
        write(file, shape=("n", 60))
        assert (
            self.message(file)
            == f"FILE takes x ['n', 60] tensor(float); expected one float input [n, channels, h, w]; {wrap}"
        )
        write(file, kind=TensorProto.INT32)
        assert (
            self.message(file)
            == f"FILE takes x ['n', 3, 4, 5] tensor(int32); expected one float input [n, channels, h, w]; {wrap}"
        )
        write(file, outputs=("a", "b"))
        assert self.message(file) == f"FILE gives a, b; expected one output, or one called logits; {wrap}"

    def test_missing_and_damaged_files(self, tmp_path):
        file = tmp_path / "m.onnx"
        assert self.message(file) == "FILE: no such file; expected an ONNX model; mend the path"
        file.write_bytes(b"hello")
        message = self.message(file)
        assert message.startswith("FILE: onnxruntime cannot load it: ")
        assert message.endswith("; expected an ONNX model; export it again")

    def test_without_onnxruntime(self, tmp_path, monkeypatch):
        def absent(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        monkeypatch.setattr(extras.importlib, "import_module", absent)
        assert self.message(tmp_path / "m.onnx") == (
            "onnxruntime is not installed; models in .onnx files need it; run: pip install 'cardgen[onnx]'"
        )
