"""Reads pictures of persons in the layouts of Market-1501: the published folders, or those that the original's
prepare.py makes of them; needs Pillow. It trains nothing and draws nothing."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _kit.errors import DataError
from shots import JUNK, Shots

BASES = ("Market/pytorch", "pytorch", "Market-1501-v15.09.15/pytorch", "Market-1501-v15.09.15", "Market", ".")
OWN_FOLDERS = ("Market-1501-v15.09.15", "Market")
# The folders of the training pictures, of the query and of the gallery: twice as prepared, once as published.
FORMS = (
    (("train_all",), ("query",), ("gallery",)),
    (("train", "val"), ("query",), ("gallery",)),
    (("bounding_box_train",), ("query",), ("bounding_box_test",)),
)
COMMON_NAMES = {"train", "val", "query", "gallery"}  # one of them alone may belong to any data set
LAYOUT = (
    "Market/pytorch/{train_all or train + val, query, gallery}/<person>/0002_c1s1_000451_03.jpg, or "
    "Market-1501-v15.09.15/{bounding_box_train, query, bounding_box_test}/0002_c1s1_000451_03.jpg "
    "(person, then camera behind the c; -1 and 0000 are nobody)"
)
SOURCE = "the page of Market-1501, linked in the README of github.com/layumi/Person_reID_baseline_pytorch"
SIZES = (12_936, 751), (3_368, 750), (19_732, 752)  # pictures and persons of Market-1501
SUFFIXES = (".jpg", ".jpeg", ".png")
HEIGHT, WIDTH = 128, 64
Form = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
_NAME = re.compile(r"^(-1|\d+)_c(\d+)")


@dataclass(frozen=True)
class Picture:
    """One picture that is not read yet; `person` as in its name."""

    path: Path
    person: int
    camera: int


@dataclass(frozen=True)
class Market:
    """The pictures of one data set, by their paths."""

    train: tuple[Picture, ...]
    query: tuple[Picture, ...]
    gallery: tuple[Picture, ...]

    @property
    def is_original(self) -> bool:
        """Whether it has as many pictures and persons as Market-1501. There are no published checksums."""
        sets = self.train, self.query, self.gallery
        return tuple((len(pictures), len({one.person for one in pictures})) for pictures in sets) == SIZES


def find_market(root: Path) -> Market | None:
    """The data set below `root`, or None; DataError when only a part of one is there or a file has no person."""
    for base in (root / name for name in BASES):
        for form in FORMS:
            if not _missing(base, form):
                return Market(*(_pictures(base, names) for names in form))
    for name in BASES:
        _refuse_part(root / name, name.startswith(OWN_FOLDERS))
    for folder in (root / name for name in OWN_FOLDERS):
        if folder.is_dir():
            raise DataError(f"{folder} holds nothing of Market-1501\n  layout: {LAYOUT}\n  source: {SOURCE}")
    return None


def _missing(base: Path, form: Form) -> list[str]:
    return [name for names in form for name in names if not (base / name).is_dir()]


def _refuse_part(base: Path, is_own: bool) -> None:
    """DataError if a part of the set is there. Where the base is not the set's own folder, a common name alone tells
    nothing."""
    present = {name for form in FORMS for names in form for name in names if (base / name).is_dir()}
    if not present or (not is_own and len(present) == 1 and present <= COMMON_NAMES):
        return
    nearest = max(FORMS, key=lambda form: sum(name in present for names in form for name in names))
    missing = ", ".join(_missing(base, nearest))
    raise DataError(f"{base} holds only a part of Market-1501; missing: {missing}\n  {LAYOUT}")


def _pictures(base: Path, names: Sequence[str]) -> tuple[Picture, ...]:
    """The pictures in the folders and in the folders therein, in order of their names."""
    found = []
    for folder in (base / name for name in names):
        paths = [path for path in _files(folder) if _is_picture(path)]
        if not paths:
            raise DataError(
                f"{folder} holds no pictures ({', '.join(SUFFIXES)})\n  layout: {LAYOUT}\n  source: {SOURCE}"
            )
        found += [_picture(path) for path in paths]
    return tuple(sorted(found, key=lambda one: (one.path.name, str(one.path))))


def _files(folder: Path) -> Iterator[Path]:
    """The files in a folder and in the folders therein, also behind links; DataError if a folder comes twice."""
    seen: set[str] = set()
    for place, _, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            raise DataError(f"{place}: a link leads to {real}, which is read already; its pictures would count twice")
        seen.add(real)
        yield from (Path(place, name) for name in names)


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() in SUFFIXES:
        return True
    if _NAME.match(path.name):
        raise DataError(f"{path}: the name is that of a picture, but it does not end in {', '.join(SUFFIXES)}")
    if not path.exists():
        raise DataError(f"{path} is a link that leads nowhere")
    return False


def _picture(path: Path) -> Picture:
    match = _NAME.match(path.name)
    if match is None:
        raise DataError(f"{path}: the name does not say person and camera, such as 0002_c1s1_000451_03.jpg")
    return Picture(path, int(match.group(1)), int(match.group(2)))


def known(pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """Those that show somebody."""
    return tuple(one for one in pictures if one.person > 0)


def first_of_each(pictures: Sequence[Picture], persons: int, each: int) -> tuple[Picture, ...]:
    """Up to `each` pictures of each of the first `persons` persons, spread over what there is of them."""
    shown = sorted({one.person for one in pictures if one.person > 0})[:persons]
    chosen: list[Picture] = []
    for person in shown:
        own = [one for one in pictures if one.person == person]
        chosen += own[:: max(1, len(own) // each)][:each]
    return tuple(chosen)


def read_shots(pictures: Sequence[Picture], height: int, pause: Callable[[], None]) -> Shots:
    """The pictures, brought to `height` x height / 2; `pause` is called between them. DataError for a damaged one."""
    images = np.empty((len(pictures), 3, height, height // 2), np.uint8)
    for number, picture in enumerate(pictures):
        images[number] = _read(picture.path, height)
        pause()
    persons = np.array([max(one.person, JUNK) for one in pictures], np.int64)
    return Shots(images, persons, np.array([one.camera for one in pictures], np.int64))


def _read(path: Path, height: int) -> np.ndarray:
    """uint8 [3, height, height / 2]."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("reading pictures needs Pillow: pip install pillow") from error
    try:
        with Image.open(path) as image:
            colours = image.convert("RGB")
            if colours.size != (height // 2, height):
                colours = colours.resize((height // 2, height), Image.Resampling.BICUBIC)
            return np.asarray(colours).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: a broken PNG
        raise DataError(f"{path} cannot be read as a picture: {error}") from error
