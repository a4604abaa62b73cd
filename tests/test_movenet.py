import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tripose.detect.movenet import load_multipose, load_thunder
from tripose.models.movenet import FEATURE_CHANNELS, Convolution, MoveNet, scaled_channels

GOLDEN = Path(__file__).parent / "data" / "movenet_golden.npz"
LOADERS = {"thunder": (load_thunder, (256, 256)), "multipose": (load_multipose, (192, 256))}


@pytest.fixture(scope="module", params=LOADERS)
def released(request):
    load, size = LOADERS[request.param]
    return request.param, load(), size


def golden_image(height, width):
    """The image of tools/convert_movenet.py, on which the released graph was evaluated."""
    row, column = np.mgrid[:height, :width]
    waves = [np.sin(row / (5 + 7 * c)) * np.cos(column / (9 + 4 * c)) for c in range(3)]
    noise = np.random.default_rng(0).integers(-40, 40, (height, width, 3))
    return np.clip(128 + 80 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def as_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 255


def test_heads_equal_the_released_graph(released):
    name, model, size = released
    with torch.inference_mode():
        heads = model(as_tensor(golden_image(*size)))
    with np.load(GOLDEN) as golden:
        expected = {key.split(".")[1]: golden[key] for key in golden.files if key.startswith(name)}
    assert set(heads) == set(expected)
    for head, value in expected.items():
        np.testing.assert_allclose(heads[head][0, ..., ::7, ::7].numpy(), value, atol=2e-3, err_msg=head)


def test_shapes(released):
    name, model, _ = released
    with torch.inference_mode():
        heads = model(torch.rand(2, 3, 96, 160))
        assert model.features(torch.rand(2, 3, 96, 160)).shape == (2, FEATURE_CHANNELS, 24, 40)
    assert heads["keypoint_heatmap"].shape == (2, 17, 24, 40)
    assert heads["keypoint_offset"].shape == (2, 17, 2, 24, 40)
    assert heads["keypoint_regression"].shape == (2, 17, 2, 24, 40)
    assert heads["center_heatmap"].shape == (2, 1, 24, 40)
    assert ("box_size" in heads) == (name == "multipose")


@pytest.mark.parametrize("shape", [(1, 3, 250, 256), (1, 1, 64, 64), (3, 64, 64)])
def test_wrong_size_is_an_error(shape):
    with pytest.raises(ValueError, match="multiples of 32") as error:
        MoveNet(0.5).features(torch.zeros(shape))
    assert str(list(shape)) in str(error.value)


def test_an_image_shifted_by_one_coarse_cell_gives_features_shifted_by_eight():
    model = load_multipose()
    image = golden_image(576, 576)
    with torch.inference_mode():
        a = model.features(as_tensor(image[:512, :512]))
        b = model.features(as_tensor(image[32:544, 32:544]))
    # Only the middle: borders see the padding, whose influence fades with distance.
    inner = a[..., 64:72, 64:72] - b[..., 56:64, 56:64]
    assert inner.abs().max() < 0.05 * a.abs().max()
    wrong = a[..., 64:72, 64:72] - b[..., 57:65, 56:64]
    assert wrong.abs().mean() > 5 * inner.abs().mean()


def test_stride_two_windows_start_on_the_even_pixel():
    convolution = Convolution(1, 1, kernel=3, stride=2)
    with torch.no_grad():
        convolution.weight.zero_()[0, 0, 0, 0] = 1.0
        convolution.bias.zero_()
        image = torch.arange(64.0).reshape(1, 1, 8, 8)
        assert torch.equal(convolution(image), image[..., ::2, ::2])


def test_gradients_reach_every_parameter_and_are_finite():
    model = MoveNet(0.5, boxes=True)
    images = torch.rand(2, 3, 64, 96, requires_grad=True)
    sum(head.square().mean() for head in model(images).values()).backward()
    assert torch.isfinite(images.grad).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_released_weights_give_finite_gradients_that_lower_the_loss():
    model = load_thunder()
    images = torch.rand(1, 3, 64, 64)
    losses = []
    for _ in range(2):
        loss = model(images)["keypoint_heatmap"].sigmoid().square().mean()
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(model.pyramid.parameters()))
        assert all(torch.isfinite(g).all() for g in gradients)
        norm = torch.stack([g.norm() for g in gradients]).norm()
        with torch.no_grad():
            for parameter, gradient in zip(model.pyramid.parameters(), gradients, strict=True):
                parameter -= 1e-3 * gradient / norm
    assert losses[1] < losses[0]


def test_channels_last_and_batch_do_not_change_the_result():
    model = load_thunder()
    images = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        all_heads = model(images.to(memory_format=torch.channels_last))["keypoint_heatmap"]
        one = model(images[1:2].contiguous())["keypoint_heatmap"]
    assert (all_heads[1] - one[0]).abs().max() < 1e-3


def test_exports_as_one_graph_without_python_side_effects():
    model = MoveNet(0.5, boxes=True).eval()
    images = torch.rand(1, 3, 64, 96)
    exported = torch.export.export(model, (images,)).module()
    with torch.inference_mode():
        expected, heads = model(images), exported(images)
    assert all(torch.allclose(expected[name], heads[name], atol=1e-5) for name in expected)


def test_channel_rule_of_mobilenet():
    assert [scaled_channels(c, 1.75) for c in (32, 16, 24, 32)] == [56, 32, 40, 56]
    assert scaled_channels(24, 0.5) == 16  # 12 would round to 8, more than 10 % below


def test_size_of_the_models():
    assert sum(p.numel() for p in load_thunder().parameters()) == pytest.approx(6.23e6, rel=0.01)
    assert sum(p.numel() for p in load_multipose().parameters()) == pytest.approx(4.72e6, rel=0.01)


def test_the_network_imports_no_image_library():
    code = "import sys, tripose.models.movenet; print('cv2' in sys.modules, 'safetensors' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
