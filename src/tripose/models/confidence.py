"""How far to trust what a view says about a joint: from the shape of its heatmap, and from how well the views agree.

What limits triangulation is not only hidden joints: many gross errors are visible joints with the heatmap of another
person or of the other side. So nothing here says "hidden" or "visible"; the head learns, through the triangulation
itself, which weights make positions right. No image features: they gave nothing beyond these few numbers.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tripose.geometry.dlt import Rays, dlt, gram_basis, gram_features, projection_rays, solve_normal
from tripose.geometry.heatmaps import size_of, spread, window_mean
from tripose.geometry.robust import best_hypothesis, gauss_newton, squared_errors

# Lengths in heatmaps are told as if all maps had this many columns (crops of 256 px at stride 4), lengths in images as
# if all crops were 256 px wide.
_COLUMNS, _CROP_PX = 64, 256
# Windows, in such cells: around the peak, how much it holds; and what is left out to find a second one.
_PEAK_CELLS, _SECOND_CELLS = 2.5, 4.0
# The edge of the image is told up to this distance.
_EDGE_CELLS = 10.0
# Mean and standard deviation of the statistics of calibrated heatmaps, to about one digit.
_USUAL = ((-3.2, 1.0), (-6.0, 1.5), (4.3, 1.0), (2.0, 1.0), (0.6, 0.25), (0.4, 0.4), (0.8, 0.3))
STATISTICS = len(_USUAL)
# Views agree below this reprojection error (px of a crop of 256), and errors are told up to the second.
_GATE_PX, _MOST_PX = 8.0, 100.0
_AGREEMENT = 5
# Least weight of a view: less makes gradients vanish, and positions hang on single views.
_FLOOR = 1e-3


class JointMLP(nn.Module):
    """Three layers with ReLU for every joint, the same but for one vector per joint; at first, all outputs are zero.

    Args:
        features: number of inputs.
        joints: number of joints.
        outputs: number of outputs.
        hidden: width.
    """

    def __init__(self, features: int, joints: int, outputs: int, hidden: int = 64) -> None:
        super().__init__()
        self.first = nn.Linear(features, hidden)
        self.joint = nn.Parameter(torch.empty(joints, hidden))
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, outputs)
        nn.init.normal_(self.joint, std=0.1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Float[Tensor, "*batch joint feature"]) -> Float[Tensor, "*batch joint output"]:
        x = (self.first(features.to(self.joint.dtype)) + self.joint).relu()
        y: Tensor = self.last(self.second(x).relu())
        return y


class ViewConfidence(nn.Module):
    """The share of every view in the triangulation of every joint.

    Before any training it is in proportion to the peak probability of the heatmap.

    Args:
        joints: number of joints.
    """

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.mlp = JointMLP(STATISTICS + _AGREEMENT + 1, joints, 1)

    def forward(
        self,
        statistics: Float[Tensor, "batch view joint statistic"],
        points_px: Float[Tensor, "batch view joint 2"],
        seen: Bool[Tensor, "batch view joint"],
        P: Float[Tensor, "batch view 3 4"],
        image_size_px: tuple[int, int],
    ) -> Float[Tensor, "batch view joint"]:
        """Shares that sum to one over the views, not below 0.001; 0 where a view does not see the joint.

        Gradients reach the head's parameters only.

        Args:
            statistics: of the heatmaps, see `heatmap_statistics`.
            points_px: where the joints were found in the crops.
            seen: views that take part.
            P: of the crops, mm to px.
            image_size_px: width, height of the crops.
        """
        with torch.no_grad():
            log_peak = statistics[..., 0].double() * _USUAL[0][1] + _USUAL[0][0]
            weight = torch.where(seen, log_peak.exp(), 0.0) / focal_lengths(P)[..., None]
            rays = projection_rays(P, points_px, weight, image_size_px)
            features = torch.cat([statistics, agreement(rays), number_of_views(seen)], -1)
        logits = self.mlp(features)[..., 0].double() + log_peak
        # Views that do not take part have no influence, and a joint that nobody sees has no NaN.
        logits = torch.where(seen, logits, -torch.inf)
        highest = logits.detach().amax(1, keepdim=True)
        weight = torch.where(seen, (logits - torch.where(highest.isfinite(), highest, 0.0)).exp(), 0.0)
        total, n = weight.sum(1, keepdim=True), seen.sum(1, keepdim=True)
        share = weight / torch.where(total > 0, total, 1.0)
        return torch.where(seen, _FLOOR + (1 - n * _FLOOR) * share, 0.0)


def heatmap_statistics(
    probability: Float[Tensor, "*batch rows columns"], cells: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch statistic"]:
    """Seven numbers about the shape of each heatmap, each near zero and of size one.

    The logarithms of the first and of a second peak, the entropy, the logarithm of the variance, how much the first
    peak holds, how far it is from the keypoint, and how far that is from the edge of the image.

    Args:
        probability: softmaxed heatmaps.
        cells: the keypoints that were read from them.
    """
    columns, rows = size_of(probability)
    scale = _COLUMNS / columns
    flat = probability.flatten(-2)
    peak, at = flat.max(-1)
    peak_cell = torch.stack([at % columns, at // columns], -1).to(cells)
    _, held = window_mean(probability, peak_cell, _PEAK_CELLS / scale)
    around = [
        torch.exp(-0.5 * ((torch.arange(n, device=cells.device) - middle) * scale / _SECOND_CELLS).square()).to(flat)
        for n, middle in zip((columns, rows), peak_cell.split(1, -1), strict=True)
    ]
    rest = torch.addcmul(probability, probability * around[1][..., :, None], around[0][..., None, :], value=-1.0)
    second = rest.flatten(-2).amax(-1)
    entropy = -(flat * flat.clamp(min=1e-12).log()).sum(-1)
    variance = (spread(probability, 2) * scale).square()
    away = (cells - peak_cell).norm(dim=-1) * scale
    last = cells.new_tensor([columns - 1, rows - 1])
    edge = (torch.minimum(cells, last - cells).amin(-1) + 0.5) * scale
    density = math.log(columns * rows / _COLUMNS**2)
    statistics = [
        peak.clamp(min=1e-9).log() + density,
        second.clamp(min=1e-9).log() + density,
        entropy - density,
        torch.log1p(variance),
        held,
        torch.log1p(away),
        edge.clamp(0, _EDGE_CELLS) / _EDGE_CELLS,
    ]
    return torch.stack([(s.to(flat) - mean) / std for s, (mean, std) in zip(statistics, _USUAL, strict=True)], -1)


def agreement(rays: Rays) -> Float[Tensor, "batch view joint 5"]:
    """How far each view is from what the views say together, float64.

    The reprojection error to RANSAC over all pairs and whether it is within 8 px (of a crop of 256), the same to the
    weighted DLT, and the error to the DLT of the other views. -1 and 0 where that is not determined.

    Args:
        rays: with the weights for the DLT, 0 for views that do not take part.
    """
    gate = _GATE_PX / _CROP_PX
    seen = Rays(rays.uv, rays.P, (rays.weight > 0).to(rays.weight), rays.focal_px)
    position, determined = best_hypothesis(seen, gate, truncated=True)
    for _ in range(2):
        position, _ = gauss_newton(seen, position, seen.weight * (squared_errors(seen, position) < gate**2))
    result = [*_told(squared_errors(rays, position), determined[:, None])]
    position, determined = dlt(rays, homogeneous=0.0)
    result += _told(squared_errors(rays, position), determined[:, None])
    own = gram_basis(rays.P).mT @ gram_features(rays.uv, rays.weight * rays.weight)
    # Sums over all but one, not the sum minus one: that would leave rounding errors of a view that is left out.
    views = own.shape[-3]
    others = 1.0 - torch.eye(views, dtype=own.dtype, device=own.device)
    position, determined = solve_normal(torch.einsum("vw,bwgj->bvgj", others, own))
    each = Rays(rays.uv[:, :, None], rays.P[:, :, None], rays.weight[:, :, None], rays.focal_px)
    result.append(_told(squared_errors(each, position)[:, :, 0], determined)[0])
    return torch.stack(result, -1)


def focal_lengths(P: Float[Tensor, "*batch view 3 4"]) -> Float[Tensor, "*batch view"]:
    """Of pinhole cameras, in their image unit; 1 for the zeros of a missing view.

    The rows of a DLT are in proportion to it. Divided by it they are lengths at the person, which compare between
    cameras that are near and far.
    """
    x, forward = P[..., 0, :3], P[..., 2, :3]
    unit = forward.norm(dim=-1)
    exists = unit > 0
    unit = torch.where(exists, unit, 1.0)[..., None]
    x, forward = x / unit, forward / unit
    sideways = x - (x * forward).sum(-1, keepdim=True) * forward
    return torch.where(exists, sideways.norm(dim=-1), 1.0)


def number_of_views(seen: Bool[Tensor, "batch view joint"]) -> Float[Tensor, "batch view joint 1"]:
    """Logarithm of the number of views, 0 for four."""
    n = seen.sum(1, keepdim=True).clamp(min=1).double()
    return (n.log2() - 2).expand(seen.shape)[..., None]


def _told(squared: Tensor, determined: Tensor) -> tuple[Tensor, Tensor]:
    """A squared reprojection error as a feature, and whether it is small."""
    error_px = squared.sqrt() * _CROP_PX
    feature = 0.5 * torch.log1p(error_px.clamp(max=_MOST_PX))
    return torch.where(determined, feature, -1.0), ((error_px < _GATE_PX) & determined).to(squared)
