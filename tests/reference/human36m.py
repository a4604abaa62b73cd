"""A slow, readable twin of `tripose.evaluation.human36m`: the protocol of Human3.6M, one pose after the other."""

from __future__ import annotations

import math

DAMAGED = ("S9/Greeting-2", "S9/SittingDown-2", "S9/Waiting-1")


def tested_rows(subjects, scenes, damaged, every):
    """The published test set: S9 and S11 in the order of the labels, then every n-th row of what is left."""
    kept = []
    for row, (subject, scene) in enumerate(zip(subjects, scenes, strict=True)):
        if subject in ("S9", "S11") and (damaged or f"{subject}/{scene}" not in DAMAGED):
            kept.append(row)
    return [row for place, row in enumerate(kept) if place % every == 0]


def distance(first, second):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)))


def joint_distances(predicted, truth, root=None):
    """Of one pose; after both roots were moved to the origin, if a root is given."""
    if root is not None:
        predicted = [[c - r for c, r in zip(joint, predicted[root], strict=True)] for joint in predicted]
        truth = [[c - r for c, r in zip(joint, truth[root], strict=True)] for joint in truth]
    return [distance(p, t) for p, t in zip(predicted, truth, strict=True)]


def mean(values):
    """None where there is nothing."""
    return sum(values) / len(values) if values else None


def published_table(predicted, truth, subjects, scenes, root):
    """{(subject, action): mean over poses of the mean over joints}, "Average" as in the published file."""
    poses = {}
    for p, t, subject, scene in zip(predicted, truth, subjects, scenes, strict=True):
        error = mean(joint_distances(p, t, root))
        action = scene.split("-")[0]
        for who in (subject, "Average"):
            for what in (action, "Average"):
                poses.setdefault((who, what), []).append(error)
    return {key: mean(errors) for key, errors in poses.items()}


def table_with_gaps(predicted, truth, subjects, scenes, root):
    """{(subject, action): (mean over the joints that were found, share of the known ones that were not)}."""
    joints = {}
    for p, t, subject, scene in zip(predicted, truth, subjects, scenes, strict=True):
        errors = joint_distances(p, t, root)
        known = [not any(math.isnan(c) for c in joint) for joint in t]
        for who in (subject, "Average"):
            for what in (scene.split("-")[0], "Average"):
                joints.setdefault((who, what), []).extend(e for e, k in zip(errors, known, strict=True) if k)
    result = {}
    for key, errors in joints.items():
        found = [e for e in errors if not math.isnan(e)]
        result[key] = mean(found), (len(errors) - len(found)) / len(errors) if errors else None
    return result


def paper_average(table):
    """{subject: mean over the actions}."""
    return {
        who: mean([v for (w, what), v in table.items() if w == who and what != "Average"])
        for who in {w for w, _ in table}
    }
