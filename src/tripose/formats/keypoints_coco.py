"""Keypoints in COCO's JSON: detection results (also AlphaPose's), or a data set with images and annotations."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tripose.errors import TriposeError
from tripose.formats.keypoints_names import skeleton_from_names
from tripose.formats.keypoints_people import Person, frame_number, triples
from tripose.skeleton import Skeleton

People = tuple[dict[int, list[Person]], int, Skeleton | None]


def people_from_coco(document: Any) -> People:
    """Read a COCO document.

    A list of results names frames by ``image_id``, a number or a file name (AlphaPose); frames in which nobody was
    found are absent from it, so its frames count from 0. A data set lists its images; the frame number is the last
    group of digits of ``file_name``, or the place in the order of the ids where the names do not tell the images
    apart, and frames count from the lowest.

    Returns:
        The people by frame number, the first frame, and the skeleton where the file names its joints.

    Raises:
        TriposeError: another layout, a missing key, an annotation of an unknown image.
    """
    if isinstance(document, list):
        frames: dict[int, list[Person]] = defaultdict(list)
        for i, entry in enumerate(document):
            image = _image_id(entry, "image_id", i)
            frame = frame_number(image) if isinstance(image, str) else image
            frames[frame].append(triples(_get(entry, "keypoints", i), f"result {i}"))
        return dict(frames), 0, None
    if isinstance(document, dict) and {"images", "annotations"} <= document.keys():
        return _data_set(document)
    if isinstance(document, dict) and "people" in document:
        raise TriposeError("this is one frame of OpenPose: give the folder that holds all frames")
    raise TriposeError("neither a list of COCO or AlphaPose results nor a COCO data set with images and annotations")


def _data_set(document: dict[str, Any]) -> People:
    if not all(isinstance(document[key], list) for key in ("images", "annotations")):
        raise TriposeError("images and annotations must be lists")
    numbers = _image_frames(document["images"])
    frames: dict[int, list[Person]] = {frame: [] for frame in numbers.values()}
    for i, annotation in enumerate(document["annotations"]):
        image = _image_id(annotation, "image_id", i)
        if image not in numbers:
            raise TriposeError(f"annotation {i} belongs to image {image!r}, which is not among the images")
        if annotation.get("keypoints"):
            frames[numbers[image]].append(triples(annotation["keypoints"], f"annotation {i}"))
    categories = document.get("categories") or []
    named = [list(map(str, c["keypoints"])) for c in categories if isinstance(c, dict) and c.get("keypoints")]
    return frames, min(frames, default=0), skeleton_from_names("coco", named[0]) if named else None


def _image_frames(images: list[Any]) -> dict[int | str, int]:
    ids = [_image_id(image, "id", i) for i, image in enumerate(images)]
    try:
        by_name = [frame_number(str(image.get("file_name", ""))) for image in images]
    except TriposeError:
        by_name = []
    if len(set(by_name)) == len(ids):
        return dict(zip(ids, by_name, strict=True))
    return {image: i for i, image in enumerate(sorted(ids, key=lambda k: (isinstance(k, str), k)))}


def _image_id(entry: Any, key: str, i: int) -> int | str:
    value = _get(entry, key, i)
    if not isinstance(value, int | str):
        raise TriposeError(f"entry {i}: {key!r} is {value!r}, neither a number nor a name")
    return value


def _get(entry: Any, key: str, i: int) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise TriposeError(f"entry {i} has no {key!r}")
    return entry[key]
