"""Slow, readable twin of `tripose.evaluation.people`: one person, one joint, one pair at a time.

A frame is a pair (predicted, true); a predicted person is (joints, confidences), a true one a list of joints; a joint
is x, y, z, NaN where it is missing.
"""

from __future__ import annotations

import math


def assigned(frames):
    """[(distance, score, true person, share of joints missing)], and the number of true people."""
    found, people = [], 0
    for predicted, true in frames:
        for joints, confidences in predicted:
            if all(missing(joint) for joint in joints):
                continue
            best = None
            for i, person in enumerate(true):
                distance, lacking = compared(joints, person)
                if best is None or distance < best[0]:
                    best = (distance, people + i, lacking)
            distance, who, lacking = best
            found.append((distance, score(joints, confidences), who, lacking))
        people += len(true)
    return found, people


def missing(joint):
    return any(math.isnan(x) for x in joint)


def compared(joints, person):
    """Mean distance over the joints that both have, infinite where they are less than half; share that is missing."""
    distances, known = [], 0
    for a, b in zip(joints, person, strict=True):
        if not missing(b):
            known += 1
            if not missing(a):
                distances.append(math.dist(a, b))
    lacking = 1 - len(distances) / known
    return (sum(distances) / len(distances) if 2 * len(distances) >= known else math.inf), lacking


def score(joints, confidences):
    some = [c for joint, c in zip(joints, confidences, strict=True) if not missing(joint) and not math.isnan(c)]
    return round(sum(some) / len(some), 9) if some else 0.0


def hits(found, threshold):
    """By falling score: whether each is the first within the threshold of its true person."""
    taken, result = set(), []
    for person in sorted(found, key=lambda f: (-f[1], f[0])):
        is_hit = person[0] < threshold and person[2] not in taken
        if is_hit:
            taken.add(person[2])
        result.append((is_hit, person))
    return result


def average_precision(found, people, threshold):
    """Points of recall and precision, after each group of equal scores; every rise of recall counts with the best
    precision from there on."""
    points, n, right = [], 0, 0
    by_score = hits(found, threshold)
    for i, (is_hit, person) in enumerate(by_score):
        n, right = n + 1, right + is_hit
        if i + 1 == len(by_score) or by_score[i + 1][1][1] != person[1]:
            points.append((right / people, right / n))
    area, before = 0.0, 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - before) * max(precision for _, precision in points[i:])
        before = recall
    return area


def figures(frames):
    found, people = assigned(frames)
    matched = [person for is_hit, person in hits(found, 500) if is_hit]
    mean = (lambda i: sum(m[i] for m in matched) / len(matched)) if matched else (lambda i: math.nan)
    return {
        "people": people,
        "found": len(found),
        **{f"ap_{t}mm": average_precision(found, people, t) for t in (25, 50, 75, 100, 125, 150)},
        "recall_500mm": len(matched) / people,
        "mpjpe_mm": mean(0),
        "missing": mean(3),
    }
