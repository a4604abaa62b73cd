"""The method of the models that ship: what the heatmaps say, as evidence in a cuboid, corrected by a light 3D network.

Heatmaps that are trained with a cross-entropy are probabilities, and the sum over the views of ``log(1 + cells * p)``
is a volume that needs no training. The 3D network learns what is wrong with it; a second look at the heatmaps around
its result removes the error of the voxels; and at last a small network knows what bodies look like. Volumes of
heatmaps: Iskakov et al., ICCV 2019, section 3.2; here without features, so that the 3D network never sees images.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.geometry.heatmaps import cell_weights, spread
from tripose.geometry.volume import Cuboid, integrate_volumes, unproject
from tripose.models.algebraic import AlgebraicTriangulation
from tripose.models.config import Evidence
from tripose.models.evidence_net import EvidenceNet
from tripose.models.pose_corrector import PoseCorrector
from tripose.models.refine import Refiner
from tripose.models.views import ModelOutput, MultiViewModel, Stages, crop_projections, shown
from tripose.models.volumetric import cuboid_around

# More views add up to no more than this many: the sharpness that volumes had in training, above which a position would
# snap to the voxels.
_MOST_VIEWS = 4
_ROOT = ("pelvis", "left_hip", "right_hip")


class EvidenceTriangulation(MultiViewModel):
    """From crops of one view or more to a position per joint; `stages` tells where the stages before saw it.

    Args:
        config: what the model is.

    Raises:
        TriposeError: a number of voxels that the 3D network cannot halve often enough.
    """

    def __init__(self, config: Evidence) -> None:
        super().__init__()
        self.config = config
        joints = len(config.joints)
        self.algebraic = AlgebraicTriangulation(config.algebraic)
        self.volume_net = EvidenceNet(joints)
        self.refiner = Refiner(joints)
        self.pose_corrector = PoseCorrector(config.joints)
        if config.voxels % EvidenceNet.divisor:
            raise TriposeError(f"voxels is {config.voxels}; the 3D network needs a multiple of {EvidenceNet.divisor}")

    def encode(self, images: Float[Tensor, "image 3 height width"]) -> tuple[Tensor, Tensor]:
        """As the algebraic stage, whose encoded views these are."""
        return self.algebraic.encode(images)

    def decode(
        self,
        encoded: tuple[Tensor, ...],
        cameras: Cameras,
        view_valid: Bool[Tensor, "batch view"] | None,
        image_size_px: tuple[int, int],
        center_mm: Float[Tensor, "batch 3"] | None = None,
        *,
        yaw_rad: Float[Tensor, " batch"] | None = None,
    ) -> ModelOutput:
        """The four stages.

        Each gets gradients from its own result only; losses on the first three need `ModelOutput.stages`.

        Args:
            encoded: see `MultiViewModel.decode`, like what is not named here.
            cameras: their up-axis turns the cuboid.
            view_valid: views that exist; None: all.
            image_size_px: of the crops.
            center_mm: where the cuboid stands; None: around the hips of the algebraic stage.
            yaw_rad: turn of the cuboid about the up-axis; None: drawn at random in training, else 0.

        Raises:
            ValueError: no `center_mm` where a sample has a single view, or one of another shape.
        """
        heatmaps, exists = (shown(e, view_valid) for e in encoded)
        batch, views = heatmaps.shape[:2]
        if view_valid is None:
            view_valid = torch.ones(batch, views, dtype=torch.bool, device=heatmaps.device)
        P = crop_projections(cameras, heatmaps, view_valid)
        algebraic = self.algebraic.locate(heatmaps, exists, P, image_size_px)
        if center_mm is None:
            center_mm = self._found_center_mm(algebraic.keypoints_mm.detach(), view_valid)
        center_mm, known = _known_places(center_mm.to(heatmaps.device, torch.float64), view_valid)
        cuboid = cuboid_around(center_mm, cameras, self.config, yaw_rad, training=self.training)
        with torch.no_grad(), torch.autocast(heatmaps.device.type, enabled=False):
            probability = cell_weights(heatmaps, 2, relu=False)
            evidence = gather_evidence(probability, P, image_size_px, cuboid, view_valid)
        volumes = self.volume_net(*evidence)
        with torch.autocast(heatmaps.device.type, enabled=False):
            volumetric_mm = integrate_volumes(volumes, cuboid)
            doubt = _doubt(volumes.detach(), cuboid, volumetric_mm.detach(), algebraic.keypoints_mm.detach())
            refined_mm, weight = self.refiner(
                probability,
                algebraic.statistics,
                algebraic.keypoints_px,
                volumetric_mm,
                doubt,
                view_valid,
                P,
                image_size_px,
            )
            certainty = torch.stack([doubt[..., 0], _support(weight)], -1)
            before = [algebraic.keypoints_mm, volumetric_mm]
            number = view_valid.sum(1).clamp(min=1)
            corrected_mm = self.pose_corrector(refined_mm, before, certainty, number, cuboid.turn)
        hide = ~known[:, None, None]
        hidden = (x.masked_fill(hide, torch.nan) for x in (volumetric_mm, refined_mm))
        return ModelOutput(
            keypoints_mm=corrected_mm.masked_fill(hide, torch.nan),
            confidence=weight / weight.sum(1, keepdim=True).clamp(min=1e-9),
            # Not those that the refinement read near to where it looked, which would agree with anything.
            keypoints_px=algebraic.keypoints_px,
            heatmaps=heatmaps,
            volumes=volumes,
            cuboid=cuboid,
            stages=Stages(algebraic.keypoints_mm, *hidden),
        )

    def _found_center_mm(self, keypoints_mm: Tensor, view_valid: Tensor) -> Tensor:
        if bool((view_valid.sum(1) == 1).any()):
            raise ValueError("a single view does not tell where the person is: give center_mm")
        return person_center_mm(keypoints_mm, self.config)


def _known_places(
    center_mm: Float[Tensor, "batch 3"], view_valid: Bool[Tensor, "batch view"]
) -> tuple[Float[Tensor, "batch 3"], Bool[Tensor, " batch"]]:
    """Places, and which are known; one that is not harms no other sample, and no gradient."""
    batch = len(view_valid)
    if center_mm.shape != (batch, 3):
        raise ValueError(f"center_mm is {list(center_mm.shape)}; {batch} samples need {[batch, 3]}")
    known = center_mm.isfinite().all(1) & view_valid.any(1)
    return torch.where(known[:, None], center_mm, 0.0), known


def gather_evidence(
    probability: Float[Tensor, "batch view joint rows columns"],
    P: Float[Tensor, "batch view 3 4"],
    image_size_px: tuple[int, int],
    cuboid: Cuboid,
    view_valid: Bool[Tensor, "batch view"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum (of up to four views), mean and maximum over the views of ``log(1 + cells * p)``, for `EvidenceNet`.

    A view that does not see a voxel counts as 0, less than the log 2 of a flat heatmap.
    """
    cells = probability.shape[-2] * probability.shape[-1]
    # Probabilities that are hardly numbers any more (below 1e-38) would make everything five times slower.
    maps = torch.log1p(cells * probability.clamp(min=1e-10))
    total = unproject(maps, P, image_size_px, cuboid, "sum", view_valid=view_valid)
    largest = unproject(maps, P, image_size_px, cuboid, "max", view_valid=view_valid)
    views = view_valid.sum(1).clamp(min=1).to(total)[:, None, None, None, None]
    return total * (_MOST_VIEWS / views).clamp(max=1.0), total / views, largest


def person_center_mm(keypoints_mm: Float[Tensor, "batch joint 3"], config: Evidence) -> Float[Tensor, "batch 3"]:
    """Where a person's cuboid stands: the median, axis by axis, of pelvis, hips, and the median of all joints.

    One wrong joint, or one side at the place of another person, does not move it far. NaN where no joint is known.
    """
    hips = keypoints_mm[:, config.joints.indices(_ROOT)]
    everything = keypoints_mm.nanquantile(0.5, dim=1, keepdim=True)
    return torch.cat([hips, everything], 1).nanquantile(0.5, dim=1)


def _support(weight: Float[Tensor, "batch view joint"]) -> Float[Tensor, "batch joint"]:
    """Feature: how much the views said about a joint where it was looked for again."""
    return 0.5 * weight.detach().square().sum(1).clamp(min=1e-6).log()


def _doubt(
    volumes: Float[Tensor, "batch joint i j k"],
    cuboid: Cuboid,
    volumetric_mm: Float[Tensor, "batch joint 3"],
    algebraic_mm: Float[Tensor, "batch joint 3"],
) -> Float[Tensor, "batch joint 2"]:
    """Features: how wide the volume of a joint is, and how far it is from the algebraic stage (-1: nobody knows)."""
    width_m = spread(cell_weights(volumes, 3, relu=False), 3) * cuboid.side_mm / (cuboid.voxels - 1) / 1000.0
    apart_m = (volumetric_mm - algebraic_mm).norm(dim=-1) / 1000.0
    apart = torch.where(apart_m.isfinite(), 0.5 * torch.log1p(100 * apart_m), -1.0)
    return torch.stack([torch.log(0.01 + 10 * width_m), apart], -1)
