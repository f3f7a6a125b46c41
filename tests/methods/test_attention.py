"""Attention of the last layer and attention rollout: their slow references, what can be read of whose models, and what is refused."""

import pytest
import torch
from reference import attention as reference
from small_models import Residual, every_batch_and_order, seeded, small_subject, transformer, untouched
from torch import nn
from torch.nn import functional as F
from torchvision.models import SwinTransformer, VisionTransformer

from cardgen import explain
from cardgen.attention import each_layer, find_tokens
from cardgen.errors import CardgenError

WANTED = {"vit_attention": reference.last_layer, "attention_rollout": reference.rollout}
KEYS = list(WANTED)


@pytest.fixture
def small():
    return small_subject(transformer(), 16, 16, n=3)


def wanted(key, small):
    """The reference's maps."""
    matrices = [WANTED[key](reference.layers(small.model, image)) for image in small.inputs]
    return torch.stack([reference.heat_map(matrix, 4, 16, 16) for matrix in matrices])


def captured(model, inputs):
    """Every layer's attention."""
    found = []
    each_layer(model, inputs, found.append)
    return found


@pytest.mark.parametrize("key", KEYS)
def test_agrees_with_the_reference(key, small):
    found = explain(key, *small.call)
    assert found.amax() > 0.02
    torch.testing.assert_close(found.double(), wanted(key, small), rtol=1e-4, atol=1e-6)


def transposed(matrix):
    return matrix[1:, 0]


MUTATIONS = {
    "what patches have of the class token": (KEYS, "class_row", transposed),
    "one token too far": (KEYS, "class_row", lambda matrix: matrix[0, :-1]),
    "one head": (KEYS, "mean_of_heads", lambda weights: weights[0]),
    "maximum of heads": (KEYS, "mean_of_heads", lambda weights: weights.amax(0)),
    "first layer": (["vit_attention"], "last_layer", lambda found: found[0].mean(0)),
    "no residual": (["attention_rollout"], "rollout", lambda found: found[1].mean(0) @ found[0].mean(0)),
    "other order": (["attention_rollout"], "rollout", lambda found, right=reference.rollout: right(found[::-1])),
    "nearest": (KEYS, "upsampled", lambda small, h, w: F.interpolate(small[None, None], (h, w))[0, 0]),
}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in MUTATIONS for key in MUTATIONS[name][0]])
def test_a_wrong_reference_would_be_seen(name, key, small, monkeypatch):
    _, function, wrong = MUTATIONS[name]
    monkeypatch.setattr(reference, function, wrong)
    monkeypatch.setitem(WANTED, key, getattr(reference, WANTED[key].__name__))
    assert (explain(key, *small.call) - wanted(key, small)).abs().max() > 1e-3


class Given(nn.Module):
    """Pixels as patches behind `extra` tokens, and layers whose attention is given; the head reads some tokens."""

    def __init__(self, layers, extra=1, read=(0,)):
        super().__init__()
        self.project = nn.Conv2d(1, 2, 1)
        self.extra = nn.Parameter(torch.rand(1, extra, 2))
        self.layers = [torch.tensor(layer).log()[None, None] for layer in layers]
        self.head = nn.Linear(2, 3)
        self.read = list(read)

    def forward(self, x):
        tokens = torch.cat([self.extra.expand(len(x), -1, -1), self.project(x).flatten(2).mT], 1)
        for layer in self.layers:
            tokens = (
                tokens + ((layer + 0 * tokens.sum((1, 2))[:, None, None, None]).softmax(-1) @ tokens[:, None])[:, 0]
            )
        return self.head(tokens[:, self.read].mean(1))


FIRST = [[0.2, 0.4, 0.4], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
SECOND = [[0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]]


def of_two_pixels(key, **options):
    model = seeded(0, lambda: Given([FIRST, SECOND], **options)).eval()
    width = 3 - options.get("extra", 1)
    return explain(key, model, torch.rand(1, 1, 1, width), torch.tensor([0]))[0, 0]


def test_by_hand():
    # tokens: class, left, right. The last layer's class token looks at the left patch with 0.4 and at the right one not at all.
    torch.testing.assert_close(of_two_pixels("vit_attention"), torch.tensor([0.4, 0.0]))
    # ½ (SECOND + I) has the first row (0.8, 0.2, 0); ½ (FIRST + I) the rows (0.6, 0.2, 0.2) and (0.25, 0.75, 0):
    # 0.8 · (0.6, 0.2, 0.2) + 0.2 · (0.25, 0.75, 0) = (0.53, 0.31, 0.16)
    torch.testing.assert_close(of_two_pixels("attention_rollout"), torch.tensor([0.31, 0.16]))


def test_which_tokens_are_read():
    # all three tokens are patches, which the head averages: columns' means of SECOND
    torch.testing.assert_close(
        of_two_pixels("vit_attention", extra=0, read=(0, 1, 2)), torch.tensor([0.8, 1.6, 0.6]) / 3
    )
    # a first token that nobody reads is a register: the mean of the patches' rows (0, 1, 0) and (0.2, 0.2, 0.6)
    torch.testing.assert_close(of_two_pixels("vit_attention", read=(1, 2)), torch.tensor([0.6, 0.3]))
    # of a class and a distillation token both rows count, (0.6, 0.4, 0) and (0, 1, 0), and there is one patch
    torch.testing.assert_close(of_two_pixels("vit_attention", extra=2, read=(0, 1)), torch.tensor([0.0]))
    # where patches are read beside the class token, it is still the class token's row
    torch.testing.assert_close(of_two_pixels("vit_attention", read=(0, 1, 2)), torch.tensor([0.4, 0.0]))


@pytest.mark.parametrize("key", KEYS)
def test_limits(key):
    """Without queries and keys every token looks at all alike, and maps are flat."""
    model = transformer()
    for block in model.encoder.layers:
        block.self_attention.in_proj_weight.data[:16] = 0
        block.self_attention.in_proj_bias.data[:16] = 0
    small = small_subject(model, 16, 16, n=2)
    # B = ½ (J/17 + I) with J all ones, so B² = ¼ (J/17 + 2 J/17 + I): off the diagonal ¾ · 1/17
    value = 1 / 17 if key == "vit_attention" else 0.75 / 17
    torch.testing.assert_close(explain(key, *small.call), torch.full((2, 16, 16), value))


@pytest.mark.parametrize("key", KEYS)
def test_any_batch_and_order(key):
    small = small_subject(transformer(), 16, 16)
    every_batch_and_order(
        lambda rows, batch: explain(key, *small.take(rows).call, batch=batch).flatten(1).double().numpy()
    )


class Dead(nn.Module):
    """A class token that nobody reads, and a head that says nothing of dark images."""

    def __init__(self):
        super().__init__()
        self.project = nn.Conv2d(1, 2, 1)

    def forward(self, x):
        patches = self.project(x).flatten(2).mT
        tokens = torch.cat([0.3 * patches.sum(1, keepdim=True), patches], 1)
        found = F.scaled_dot_product_attention(tokens[:, None], tokens[:, None], tokens[:, None])
        return F.relu(found[:, 0, 1:].mean(1) + torch.where(x.mean((1, 2, 3)) > 0.4, 9.0, -9.0)[:, None])


@pytest.mark.parametrize("key", KEYS)
def test_the_first_of_a_batch_does_not_decide_what_is_read(key):
    images = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0)) / 4
    images[1] += 0.7
    model, targets = seeded(0, Dead).eval(), torch.tensor([0, 0])
    together, alone = explain(key, model, images, targets), explain(key, model, images[1:], targets[1:])
    torch.testing.assert_close(together[1], alone[0], rtol=0, atol=1e-6)


def test_looking_changes_nothing(small):
    with torch.no_grad(), untouched(small.model, small.inputs):
        alone = small.model(small.inputs)
        outputs = []
        handle = small.model.register_forward_hook(lambda m, a, output: outputs.append(output))
        captured(small.model, small.inputs)
        handle.remove()
    torch.testing.assert_close(outputs[0], alone)


@pytest.mark.parametrize("asked", [{}, {"need_weights": False}, {"average_attn_weights": False}])
def test_whoever_asks_for_weights_gets_what_was_asked_for(asked):
    attention, tokens = seeded(0, lambda: nn.MultiheadAttention(8, 2)).eval(), torch.rand(3, 1, 8)

    class Asking(nn.Module):
        def forward(self, x):
            self.found = attention(tokens, tokens, tokens, **asked)
            return x.flatten(1)

    model = Asking()
    with torch.no_grad():
        each_layer(model, torch.rand(1, 1, 1, 2), lambda weights: None)
        output, weights = attention(tokens, tokens, tokens, **asked)
    torch.testing.assert_close(model.found[0], output)
    assert weights is None if model.found[1] is None else torch.allclose(model.found[1], weights)


BOOLEAN = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) < 0.7
OPTIONS = {
    "plain": {},
    "boolean mask": {"attn_mask": BOOLEAN | torch.eye(5, dtype=torch.bool)},
    "mask of numbers": {"attn_mask": BOOLEAN.float()},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.7},
    "fewer keys": {"enable_gqa": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_fused_attention_does_is_what_its_weights_say(options):
    """Whatever the options, its output for values V is A V."""
    draws = torch.Generator().manual_seed(1)
    query = torch.randn(1, 4, 5, 3, generator=draws)
    key, value = torch.randn(2, 1, 2 if "enable_gqa" in options else 4, 5, 3, generator=draws).unbind(0)

    class Fused(nn.Module):
        def forward(self, x):
            self.found = F.scaled_dot_product_attention(query, key, value, **options)
            return x.flatten(1)

    model, layers = Fused(), []
    with torch.no_grad():
        each_layer(model, torch.rand(1, 1, 1, 2), layers.append)
    torch.testing.assert_close(layers[0] @ value.repeat_interleave(4 // value.shape[1], 1), model.found)


class TestTimm:
    timm = pytest.importorskip("timm")

    def build(self, name, **options):
        model = seeded(0, lambda: self.timm.create_model(name, img_size=32, depth=2, num_classes=4, **options))
        return model.eval()

    @pytest.mark.parametrize("fused", [True, False])
    def test_every_layer(self, fused):
        model, image = self.build("vit_tiny_patch16_224"), torch.rand(1, 3, 32, 32)
        entered = []
        for block in model.blocks:
            block.attn.fused_attn = fused
            block.attn.register_forward_pre_hook(lambda module, arguments: entered.append(arguments[0][0]))
        with torch.no_grad():
            found = captured(model, image)
        assert len(found) == 2
        for weights, tokens, block in zip(found, entered, model.blocks, strict=True):
            by_hand = reference.attention(tokens, block.attn.qkv.weight.detach(), block.attn.qkv.bias.detach(), 3)
            torch.testing.assert_close(weights[0].double(), by_hand, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(
        ("name", "extra", "read"),
        [
            ("vit_tiny_patch16_224", 1, [0]),
            ("deit_tiny_distilled_patch16_224", 2, [0, 1]),
            ("vit_small_patch14_reg4_dinov2", 5, [0]),
            ("vit_medium_patch16_reg4_gap_256", 4, [4, 5, 6, 7]),
            ("beit_base_patch16_224", 1, [1, 2, 3, 4]),  # its class token is there and is not read
            ("eva02_tiny_patch14_224", 1, [1, 2, 3, 4]),
        ],
    )
    def test_tokens(self, name, extra, read):
        options = {"patch_size": 16} if "patch14" in name else {}
        assert find_tokens(self.build(name, **options), torch.rand(1, 3, 32, 32)) == ((2, 2), extra, read)

    @pytest.mark.parametrize("name", ["beit_base_patch16_224", "eva02_tiny_patch14_224"])
    def test_biases_and_rotations_are_in_the_weights(self, name):
        """With and without fused attention: a bias added to the scores, and rotary positions."""
        model, image = self.build(name, patch_size=16), torch.rand(2, 3, 32, 32)
        for parameter in model.parameters():  # biases begin with zeros
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            fused = captured(model, image)
            for block in model.blocks:
                block.attn.fused_attn = False
            plain = captured(model, image)
        assert fused[1].amax() > 1.5 * fused[1].mean()
        torch.testing.assert_close(fused, plain)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("swin_tiny_patch4_window7_224", r"^WindowAttention \(layers.0.blocks.0.attn\) attends within windows"),
            ("cait_xxs24_224", r"not from every token of the image to every token \(weights of shape \(1, 4, 1, 5\)"),
            ("vit_base_patch16_siglip_224", r"^AttentionPoolLatent \(attn_pool\) attends not from every token"),
            ("xcit_nano_12_p16_224", r"^ClassAttn \(cls_attn_blocks.0.attn\) attends not"),
        ],
    )
    def test_refused(self, name, reason):
        size = 224 if "swin" in name else 32
        options = {"img_size": size} | ({"depths": (1, 1), "num_heads": (1, 1)} if "swin" in name else {"depth": 1})
        model = self.timm.create_model(name, num_classes=4, **options).eval()
        with pytest.raises(CardgenError, match=reason):
            find_tokens(model, torch.rand(1, 3, size, size))


@pytest.mark.parametrize("how", ["eager", "sdpa"])
def test_transformers(how):
    """Their own `output_attentions` says the same."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=4, num_labels=3, initializer_range=0.5)
    model = seeded(0, lambda: transformers.ViTForImageClassification(config)).eval()
    image = torch.rand(2, 3, 16, 16)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = model(image, output_attentions=True).attentions
        model.set_attn_implementation(how)
        torch.testing.assert_close(captured(model, image), list(theirs))
    assert find_tokens(model, image[:1]) == ((4, 4), 1, [0])


class Linear(nn.Module):
    """A transformer that cuts patches without a convolution, and takes any attention of torch's."""

    def __init__(self, tokens=1, batch_first=False):
        super().__init__()
        self.patch = nn.Linear(3 * 16, 8)
        self.extra = nn.Parameter(torch.rand(tokens, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        n, _, h, w = x.shape
        cut = x.view(n, 3, h // 4, 4, w // 4, 4).permute(2, 4, 0, 1, 3, 5).reshape(-1, n, 48)
        tokens = torch.cat([self.extra.expand(-1, n, -1), self.patch(cut)])
        tokens = tokens.transpose(0, 1) if self.attention.batch_first else tokens
        found = self.attention(tokens, tokens, tokens)[0]
        return self.head(found[:, 0] if self.attention.batch_first else found[0])


@pytest.mark.parametrize("batch_first", [True, False])
def test_patches_cut_without_a_convolution_are_squares(batch_first):
    model = seeded(0, lambda: Linear(batch_first=batch_first)).eval()
    assert find_tokens(model, torch.rand(1, 3, 8, 12)) == ((2, 3), 1, [0])
    assert explain("vit_attention", model, torch.rand(2, 3, 8, 12), torch.tensor([0, 1])).shape == (2, 8, 12)


def test_a_head_of_zeros_has_its_class_token_all_the_same():
    model = seeded(0, lambda: VisionTransformer(16, 4, 1, 2, 8, 16, num_classes=4)).eval()
    assert not model.heads.head.weight.any()
    assert find_tokens(model, torch.rand(1, 3, 16, 16)).read == [0]


class TestRefusals:
    @pytest.mark.parametrize("key", KEYS)
    def test_a_convolutional_network(self, key):
        small = small_subject(seeded(0, Residual).eval(), 12, 10)
        with pytest.raises(
            CardgenError, match=r"^no attention was found \(nn.MultiheadAttention, .*\); expected a vision transformer"
        ):
            explain(key, *small.call)

    def test_windows(self):
        model = seeded(0, lambda: SwinTransformer([4, 4], 8, [1, 1], [1, 1], [4, 4])).eval()
        words = (
            r"^ShiftedWindowAttention \(features.1.0.attn\) attends within windows \(weights of shape \(4, 1, 16, 16\)"
        )
        with pytest.raises(CardgenError, match=words):
            find_tokens(model, torch.rand(1, 3, 32, 32))

    def test_too_many_tokens_for_the_image(self):
        with pytest.raises(CardgenError, match=r"^no grid of patches was found for 62 tokens: no square patches give"):
            find_tokens(seeded(0, lambda: Linear(tokens=60)).eval(), torch.rand(1, 3, 8, 4))

    def test_weights_that_are_no_shares(self, small):
        small.model.encoder.layers[0].self_attention.in_proj_bias.data[0] = float("nan")
        with pytest.raises(CardgenError, match=r"^a token's attention weights do not sum to 1"):
            captured(small.model, small.inputs)
