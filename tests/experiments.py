"""The six published experiment files, typed anew: the same keys and values, in sections that they share."""

from __future__ import annotations

_HEAD = """\
title: "{title}"
kind: "human36m"
vis_freq: 1000
vis_n_elements: 10

image_shape: [384, 384]  # height, width
"""

_OPT = """
opt:
  criterion: "MSESmooth"
  mse_smooth_threshold: 400
  n_objects_per_epoch: {per_epoch}
  n_epochs: 9999
  batch_size: 8
  val_batch_size: {val_batch}
  lr: 0.00001
  scale_keypoints_3d: 0.1
"""

_OPT_VOL = """
opt:
  criterion: "MAE"
  use_volumetric_ce_loss: true
  volumetric_ce_loss_weight: 0.01
  n_objects_per_epoch: 15000
  n_epochs: 9999
  batch_size: 5
  val_batch_size: {val_batch}
  lr: 0.0001
  process_features_lr: 0.001
  volume_net_lr: 0.001
  scale_keypoints_3d: 0.1
"""

_MODEL = """
model:
  name: "{name}"
  init_weights: {init}
  checkpoint: "{checkpoint}"
  heatmap_softmax: true
  heatmap_multiplier: 100.0
{method}
  backbone:
    name: "resnet152"
    style: "simple"
    num_layers: 152
    num_joints: 17
    init_weights: true
    checkpoint: "data/pose_resnet_4.5_pixels_human36m.pth"
"""

_VOL = """\
  kind: "mpii"
  volume_aggregation_method: "softmax"
  use_gt_pelvis: false
  cuboid_side: 2500.0
  volume_size: 64
  volume_multiplier: 1.0
  volume_softmax: true
"""

_SPLIT = """\
  {split}:
    h36m_root: "data/human36m/processed"
    labels_path: "data/human36m/labels.npy"
{results}\
    with_damaged_actions: true
    undistort_images: true
    scale_bbox: 1.0
    shuffle: {shuffle}
    randomize_n_views: false
    min_n_views: null
    max_n_views: null
    num_workers: 8
"""


def _experiment(name: str, method: str, *, train: bool, per_epoch: int = 15000, val_batch: int = 16) -> str:
    title = "human36m_vol_softmax" if name == "vol" else f"human36m_{name}"
    own_weights = not train and name != "ransac"
    text = _HEAD.format(title=title)
    text += (_OPT_VOL if name == "vol" else _OPT).format(per_epoch=per_epoch, val_batch=val_batch)
    text += _MODEL.format(
        name=name,
        init=str(own_weights).lower(),
        checkpoint="data/weights.pth" if own_weights else "",
        method=method,
    )
    text += '\ndataset:\n  kind: "human36m"\n'
    for split in ("train", "val"):
        results = f'    pred_results_path: "data/{split}.pkl"\n' if name == "vol" else ""
        text += _SPLIT.format(split=split, results=results, shuffle=str(split == "train").lower())
    return text + "    retain_every_n_frames_in_test: 1\n"


EXPERIMENTS = {
    "train_alg": _experiment("alg", "  use_confidences: true\n", train=True),
    "train_alg_no_conf": _experiment("alg", "  use_confidences: false\n", train=True, per_epoch=10000),
    "train_vol_softmax": _experiment("vol", _VOL, train=True, val_batch=10),
    "eval_alg": _experiment("alg", "  use_confidences: true\n", train=False, val_batch=100),
    "eval_ransac": _experiment("ransac", "  direct_optimization: true\n", train=False, val_batch=100),
    "eval_vol_softmax": _experiment("vol", _VOL, train=False, val_batch=75),
}


def edited(experiment: str, *changes: tuple[str, str]) -> str:
    """An experiment with pieces of its text replaced; every piece must be there."""
    text = EXPERIMENTS[experiment]
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


SMALL = (("num_layers: 152", "num_layers: 18"), ("[384, 384]", "[128, 128]"))
SMALL_VOL = (*SMALL, ("volume_size: 64", "volume_size: 32"))
