"""The data sets that a configuration names."""

from __future__ import annotations

from dataclasses import dataclass, field

from tripose.data.batch import Sample, Samples
from tripose.data.shards import open_shards
from tripose.data.views import select_views
from tripose.errors import TriposeError
from tripose.skeleton import Skeleton
from tripose.train.config import Source, Synthetic, TrainConfig


def open_data(config: TrainConfig) -> tuple[Samples, Samples | None]:
    """Open what is trained and validated on.

    Raises:
        TriposeError: a data set does not exist, is empty, or has another skeleton.
    """
    data = config.data
    if data.train is None:
        raise TriposeError("data.train is missing: where the samples are")
    return _open(data.train, config), None if data.val is None else _open(data.val, config)


def check_samples(samples: Samples, config: TrainConfig) -> None:
    """Check that a data set fits the model.

    Raises:
        TriposeError: it is empty, or has another skeleton or image size.
    """
    if not len(samples):
        raise TriposeError("the data set has no sample")
    if samples.skeleton != config.model.joints:
        raise TriposeError(
            f"the data set's skeleton is {samples.skeleton.name}, and model.skeleton is {config.model.skeleton}"
        )
    height, width = samples[0].images.shape[1:3]
    wanted = tuple(config.model.image_size_px)
    if (width, height) != wanted:
        raise TriposeError(f"the data set's images are {width} x {height} px; model.image_size_px is {list(wanted)}")


@dataclass(frozen=True)
class _Of:
    """Samples made of those of another data set."""

    samples: Samples

    @property
    def skeleton(self) -> Skeleton:
        """That of the data set."""
        return self.samples.skeleton

    def __len__(self) -> int:
        """That of the data set."""
        return len(self.samples)


@dataclass(frozen=True)
class First(_Of):
    """The first samples of a data set.

    Attributes:
        samples: the data set.
        number: how many.
    """

    number: int

    def __len__(self) -> int:
        """How many there are."""
        return min(self.number, len(self.samples))

    def __getitem__(self, index: int) -> Sample:
        """One of them."""
        return self.samples[index]


@dataclass(frozen=True)
class SeenBy(_Of):
    """A data set without what other cameras see.

    Attributes:
        samples: the data set.
        cameras: their names.
    """

    cameras: tuple[str, ...]

    def __getitem__(self, index: int) -> Sample:
        """A sample as these cameras see it.

        Raises:
            TriposeError: none of them does.
        """
        sample = self.samples[index]
        some = [v for v, name in enumerate(sample.cameras.names) if name in self.cameras]
        if not some:
            raise TriposeError(
                f"sample {index} is seen by {', '.join(sample.cameras.names)}, and data's cameras are "
                f"{', '.join(self.cameras)}"
            )
        return select_views(sample, some)


@dataclass(frozen=True)
class Kept(_Of):
    """A small data set whose samples are expensive: each is made once a process, and kept in memory.

    Attributes:
        samples: the data set.
    """

    _made: dict[int, Sample] = field(default_factory=dict)

    def __getitem__(self, index: int) -> Sample:
        """One of them."""
        if index not in self._made:
            self._made[index] = self.samples[index]
        return self._made[index]


def _open(source: Source, config: TrainConfig) -> Samples:
    skeleton, side_px = config.model.joints, config.model.image_size_px[0]
    if isinstance(source, Synthetic):
        from tripose.data.synthetic.people import People, RandomPeople

        people = People(**source.model_dump(exclude={"kind", "samples"}), image_size_px=side_px)
        return Kept(RandomPeople(people, source.samples, skeleton.name))
    stored = open_shards(source.folder, skeleton.name)
    samples: Samples = stored if source.cameras is None else SeenBy(stored, source.cameras)
    return samples if source.first is None else First(samples, source.first)
