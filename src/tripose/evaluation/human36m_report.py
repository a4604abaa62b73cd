"""The paper's tables of Human3.6M, of predictions whose groups are its scenes (``S9/Directions-1``)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Shaped

from tripose.data.human36m.protocol import SCENES, SUBJECTS
from tripose.evaluation.human36m import MEAN_OF_ACTIONS, ProtocolErrors, damaged_rows, protocol_table
from tripose.evaluation.markdown import mm, percent, text_table
from tripose.evaluation.predictions import Predictions
from tripose.evaluation.tables import ALL, Errors, Row, Table, methods_of

_GROUPS = frozenset(f"{subject}/{scene}" for subject in SUBJECTS for scene in SCENES)

ALL_SCENES, SOUND_SCENES = "all", "without damaged"
"""Which scenes a row of the table is over."""


def is_human36m(predictions: Predictions) -> bool:
    """Whether all groups are scenes of Human3.6M."""
    return len(predictions) > 0 and set(predictions.group.tolist()) <= _GROUPS


def by_action(predictions: Predictions) -> Predictions:
    """The same with actions as groups, for the general tables: 15 instead of one for each scene."""
    _, scene = _parts(predictions)
    action = np.array([name.rpartition("-")[0] for name in scene.tolist()], dtype=np.str_)
    return replace(predictions, group=action)


def human36m_table(predictions: Predictions, errors: Errors) -> Table:
    """`protocol_table` for each method, number of views, and with and without the damaged scenes.

    Args:
        predictions: whose groups are scenes, see `is_human36m`.
        errors: of them.
    """
    subject, scene = _parts(predictions)
    is_damaged = damaged_rows(subject, scene)
    table: Table = []
    for views in np.unique(predictions.n_views)[::-1].tolist():
        for method in methods_of(predictions):
            of_method = (predictions.n_views == views) & (predictions.method == method)
            for scenes in (ALL_SCENES, SOUND_SCENES):
                chosen = of_method & ~(is_damaged & (scenes == SOUND_SCENES))
                if chosen.any() and (scenes == ALL_SCENES or (of_method & is_damaged).any()):
                    some = ProtocolErrors(errors.absolute[chosen], errors.relative[chosen], errors.known[chosen])
                    head: Row = {"method": method, "views": views, "scenes": scenes}
                    table += [{**head, **row} for row in protocol_table(some, subject[chosen], scene[chosen])]
    return table


def human36m_markdown(table: Table) -> str:
    """The tables as Markdown: each error with all scenes and without the damaged ones, as far as there are such."""
    parts = ["## Human3.6M", _LEGEND]
    for title, figure, missing in (
        ("Relative to the pelvis", "relative_mm", "relative_missing"),
        ("Absolute", "mean_mm", "missing"),
    ):
        for scenes in (ALL_SCENES, SOUND_SCENES):
            chosen = [row for row in table if row["scenes"] == scenes]
            if chosen:
                suffix = "" if scenes == ALL_SCENES else ", without the damaged scenes of S9"
                parts += [f"### {title}{suffix}", _pivot(chosen, figure, missing)]
    return "\n\n".join(parts)


_LEGEND = (
    "Mean error of the joints that were found, mm. Relative: after the pelvis (for a model of another data set: the "
    "right wrist) was moved to the origin; it counts, with error 0. The two trials of an action are pooled. The "
    "paper's average is the mean of actions, that of its code is over all frames. Missing: the share of joints "
    "that were not found, which are in no mean."
)


def _pivot(table: Table, figure: str, missing: str) -> str:
    """A line for each method, number of views and subject, and a column for each action."""
    actions = sorted({str(row["action"]) for row in table} - {ALL, MEAN_OF_ACTIONS})
    lines = dict[tuple[str, str, str], dict[str, Row]]()
    for row in table:
        key = str(row["method"]), str(row["views"]), str(row["subject"])
        lines.setdefault(key, {})[str(row["action"])] = row
    columns = [*actions, MEAN_OF_ACTIONS, ALL]
    text = [
        [*key, *(mm(rows[c][figure]) if c in rows else "" for c in columns), percent(rows[ALL][missing])]
        for key, rows in lines.items()
    ]
    return text_table(["method", "views", "subject", *actions, MEAN_OF_ACTIONS, "all frames", "missing"], text)


def _parts(predictions: Predictions) -> tuple[Shaped[np.ndarray, " entry"], Shaped[np.ndarray, " entry"]]:
    """Subject and scene of every entry."""
    parts = [group.split("/", 1) for group in predictions.group.tolist()]
    subject, scene = (np.array([part[i] for part in parts], dtype=np.str_) for i in range(2))
    return subject, scene
