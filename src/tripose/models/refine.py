"""A second look at the heatmaps, around where a volume says that the joints are: removes the error of its voxels."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tripose.geometry.dlt import gram_matrix, projection_rays, solve_normal
from tripose.geometry.heatmaps import size_of, to_cells, to_pixels, window_mean
from tripose.models.confidence import STATISTICS, JointMLP, focal_lengths, number_of_views
from tripose.models.views import look

# Standard deviations of the two windows, and the unit of lengths in images: px of a crop of 256.
_WINDOWS_PX, _CROP_PX = (12.0, 28.0), 256
_MOST_PX = 150.0
_FLOOR = 1e-3
_MM_PER_M = 1000.0
# The pull before any training, as the logarithm of its weight beside rows of the DLT of about 0.5 each; and its limits.
_FIRST_PULL, _LEAST_PULL, _MOST_PULL = -1.0, -8.0, 5.0
_WINDOW_FEATURES, _JOINT_FEATURES = 2 * len(_WINDOWS_PX) + 1, 2


class Refiner(nn.Module):
    """Read the heatmaps again in a window around a projected position, and triangulate with a pull towards it.

    Where views say much, they decide; where they say nothing (a joint that nobody sees well, or a single view along its
    ray), the position stays as it was.

    Args:
        joints: number of joints.
    """

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.views = JointMLP(STATISTICS + _WINDOW_FEATURES + _JOINT_FEATURES + 1, joints, 2)
        self.pull = JointMLP(_JOINT_FEATURES + 2, joints, 1, hidden=16)

    def forward(
        self,
        probability: Float[Tensor, "batch view joint rows columns"],
        statistics: Float[Tensor, "batch view joint statistic"],
        points_px: Float[Tensor, "batch view joint 2"],
        keypoints_mm: Float[Tensor, "batch joint 3"],
        doubt: Float[Tensor, "batch joint 2"],
        view_valid: Bool[Tensor, "batch view"],
        P: Float[Tensor, "batch view 3 4"],
        image_size_px: tuple[int, int],
    ) -> tuple[Float[Tensor, "batch joint 3"], Float[Tensor, "batch view joint"]]:
        """Refined positions (mm), and weights of the views; in float64.

        Gradients reach the parameters here only: a stage that is fitted through another one leans on it.

        Args:
            probability: softmaxed heatmaps.
            statistics: of them, see `heatmap_statistics`.
            points_px: what was read from them without knowing more.
            keypoints_mm: where the joints should be; finite.
            doubt: features that say how certain that is.
            view_valid: views that exist.
            P: of the crops, mm to px.
            image_size_px: width, height of the crops.
        """
        with torch.no_grad():
            start_mm = keypoints_mm.detach()
            projected_px, _ = look(start_mm, P, image_size_px)
            seen = view_valid[..., None] & projected_px.isfinite().all(-1)
            projected_px = torch.where(seen[..., None], projected_px, 0.0)
            read_px, window_features = _read_again(probability, projected_px, points_px, image_size_px)
            joint_features = doubt[:, None].expand(*seen.shape, -1)
            features = torch.cat([statistics, window_features, joint_features, number_of_views(seen)], -1)
        said = self.views(features).double()
        weight = torch.where(seen, said[..., 0].sigmoid() + _FLOOR, 0.0)
        narrow = said[..., 1:].sigmoid()
        read_px = narrow * read_px[0] + (1 - narrow) * read_px[1]
        total = weight.square().sum(1)[..., None]
        features = torch.cat([doubt, total.detach(), number_of_views(seen)[:, 0]], -1)
        pull = (self.pull(features)[..., 0].double() + _FIRST_PULL).clamp(_LEAST_PULL, _MOST_PULL).exp()
        refined_mm = _pulled_dlt(P, read_px, weight, image_size_px, start_mm, pull)
        return refined_mm, weight


def _read_again(
    probability: Float[Tensor, "batch view joint rows columns"],
    projected_px: Float[Tensor, "batch view joint 2"],
    points_px: Float[Tensor, "batch view joint 2"],
    image_size_px: tuple[int, int],
) -> tuple[list[Float[Tensor, "batch view joint 2"]], Float[Tensor, "batch view joint feature"]]:
    """What the heatmaps say in each window around the projections, and what there is to say about it."""
    size = size_of(probability)
    middle = to_cells(projected_px, image_size_px, size)
    unit, cell_px = _CROP_PX / image_size_px[0], image_size_px[0] / size[0]
    read_px, features = [], []
    for sigma_px in _WINDOWS_PX:
        cells, held = window_mean(probability, middle, sigma_px / unit / cell_px)
        read_px.append(to_pixels(cells, image_size_px, size, legacy_alignment=False))
        moved_px = (read_px[-1] - projected_px).norm(dim=-1) * unit
        features += [0.3 * held.clamp(min=1e-6).log(), 0.1 * moved_px]
    away_px = (points_px - projected_px).norm(dim=-1) * unit
    features.append(0.5 * torch.log1p(away_px.clamp(max=_MOST_PX)))
    return read_px, torch.stack(features, -1)


def _pulled_dlt(
    P: Float[Tensor, "batch view 3 4"],
    points_px: Float[Tensor, "batch view joint 2"],
    weight: Float[Tensor, "batch view joint"],
    image_size_px: tuple[int, int],
    start_mm: Float[Tensor, "batch joint 3"],
    pull: Float[Tensor, "batch joint"],
) -> Float[Tensor, "batch joint 3"]:
    """Minimise ``sum w^2 |rows of the DLT|^2 + pull |X - start|^2``; rows are metres at the joint's depth."""
    rays = projection_rays(P, points_px, weight, image_size_px)
    squared = (rays.weight / focal_lengths(rays.P)[..., None]).square()
    # With the origin in each start, the step is what is solved for, and the pull only adds to the diagonal.
    gram = gram_matrix(rays.P, rays.uv, squared)
    x, y, z = (start_mm / _MM_PER_M).unbind(-1)
    a, b, c, d, e, f, g, h, i, k = gram.unbind(-2)
    of_start = a * x + b * y + c * z + d, b * x + e * y + f * z + g, c * x + f * y + h * z + i
    system = a + pull, b, c, of_start[0], e + pull, f, of_start[1], h + pull, of_start[2], k
    step, _ = solve_normal(torch.stack(system, -2))
    return start_mm + _MM_PER_M * step.mT
