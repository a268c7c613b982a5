"""A folder of images, a sub-folder a class."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging
from tqdm import tqdm

from tfaug.config import ConfigError, check_range, check_whole
from tfaug.data.cache import cached_split
from tfaug.data.sources.base import PARTS, Parts, Source, check_path, hold_out_test, order_in_turn
from tfaug.data.split import Split
from tfaug.extras import explained

with explained():
    import PIL
    from PIL import Image, ImageOps, UnidentifiedImageError

_CACHE_FORMAT = 1
_FORMATS = ("JPEG", "PNG", "WEBP")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_SHOWN = 3  # of the classes that a part lacks


@dataclasses.dataclass(frozen=True)
class Folder(Source):
    """JPEG, PNG and WebP files of any size, in a sub-folder for each class: cats/a.jpg, dogs/b.png.

    Or `train`, and if wanted `validation` and `test`, with these sub-folders in each. As a further test set it is then
    the part `test`, else all of it. A test part that is not there is cut from the training files, a share of every
    class alike and the same files in every run.

    A file becomes uint8 [image_px, image_px, 3]: turned as its EXIF orientation says; grey repeated in three channels,
    16 bits cut to the upper 8; what is transparent laid over white; then, in one step, the shorter side scaled to
    `image_px` and the centre cut out, by Pillow's BILINEAR, which weighs all pixels that a new one covers: antialiased.
    Of an animation it is the first picture. The id is the path below the folder, 'cats/a.jpg'; the order is that of the
    classes and then of the names, by code point. Links are followed; what begins with a dot is passed over.

    Attributes:
      path: of the folder.
      image_px: the side of the images, 1..4096.
      test_fraction: the share that is cut where there is no `test`, 0.001..0.5.

    Raises:
      ConfigError: if a field is out of range.
    """

    path: str
    image_px: int = 64
    test_fraction: float = 0.2

    def __post_init__(self) -> None:
        check_path(self, "path")
        check_whole(self, "image_px", 1, 4096)
        check_range(self, "test_fraction", 0.001, 0.5)

    @property
    def short_name(self) -> str:
        return self._root.resolve().name or "folder"

    @property
    def parts(self) -> tuple[str, ...]:
        has = _folders_of_parts(self._root)
        if "train" in has or not has:
            has = (*has, "train", "test")
        return tuple(part for part in PARTS if part in has)

    @property
    def one_part(self) -> bool:
        return not _folders_of_parts(self._root)

    @property
    def _root(self) -> pathlib.Path:
        return pathlib.Path(self.path).expanduser()

    def load(self, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        """Loads parts; see `Source.load`. What is cached is made again when a name, a size or a time of a file changes.

        Raises:
          ConfigError: if the folder is not as above, naming all that is wrong in it; or if files of the parts cannot be
            read, naming all of them.
        """
        found, class_names = self._find()
        if "train" in found and "test" not in found:
            files = found["train"]
            train, test = hold_out_test(self, np.array([file.label for file in files]), self.test_fraction)
            found["train"], found["test"] = [files[i] for i in train], [files[i] for i in test]
        return self._read({part: found[part] for part in parts}, class_names, cache_dir)

    def test_set(self, cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        if not self.one_part:
            return super().test_set(cache_dir)
        found, class_names = self._find()
        return self._read({"test": found["train"]}, class_names, cache_dir)

    def first(self, num: int) -> Parts:
        """Loads a few images; see `Source.first`. No other file is read."""
        found, class_names = self._find()
        part, files = next(iter(found.items()))
        order = order_in_turn(np.array([file.label for file in files]))[:num]
        return self._read({part: [files[i] for i in order]}, class_names, None)

    def describe(self) -> str:
        return self._describe_unknown(self.short_name, "folder of images")

    def resolved(self) -> Folder:
        return dataclasses.replace(self, path=str(self._root.resolve()))

    def _find(self) -> tuple[dict[str, list[_File]], tuple[str, ...]]:
        """The files of each part, all as 'train' where there are no folders of parts, and the names of the classes."""
        root = self._root
        has = _folders_of_parts(root)
        folders = {part: root / part for part in has} or {"train": root}
        classes = {part: [path.name for path in _visible(folder) if path.is_dir()] for part, folder in folders.items()}
        class_names = tuple(sorted(set().union(*classes.values())))
        wrong = []
        if len(class_names) < 2:
            wrong.append(f"{'no' if not class_names else 'a single'} folder of a class; two or more are needed")
        found: dict[str, list[_File]] = {}

        def name_of(path: pathlib.Path) -> str:
            return path.relative_to(root).as_posix()

        for part, folder in folders.items():
            if missing := [name for name in class_names if name not in classes[part]]:
                shown = ", ".join(missing[:_SHOWN]) + (f", ... ({len(missing)})" if len(missing) > _SHOWN else "")
                wrong.append(f"{part} has no folder of {shown}, as another part has")
            stray = [path for path in _visible(folder) if path.suffix.lower() in _SUFFIXES and not path.is_dir()]
            wrong += [f"{name_of(path)} is in no folder of a class" for path in stray]
            found[part] = []
            for name in classes[part]:
                paths = _visible(folder / name)
                if not paths:
                    wrong.append(f"{name_of(folder / name)} is empty")
                wrong += [f"{name_of(path)} is a folder within that of a class" for path in paths if path.is_dir()]
                found[part] += [_File(path, name_of(path), class_names.index(name)) for path in paths]
        if wrong:
            raise ConfigError(
                _list_up(f"the folder of images {self.path!r} is not as it should be", wrong)
                + "\nallowed: a folder of images for each class, in it or in train, validation and test"
            )
        return found, class_names

    def _read(
        self,
        found: dict[str, list[_File]],
        class_names: tuple[str, ...],
        cache_dir: str | os.PathLike[str] | None,
    ) -> Parts:
        """The images of the files, from the cache or decoded."""
        splits: dict[str, Split] = {}
        unreadable: list[str] = []
        where = hashlib.sha256(str(self._root.resolve()).encode(errors="surrogateescape")).hexdigest()[:8]
        for part, files in found.items():
            name = f"{self.short_name}-{where}-{self.image_px}-{part}"
            try:
                key = json.dumps([_CACHE_FORMAT, PIL.__version__, self.image_px, [file.state for file in files]])
                splits[part] = cached_split(
                    cache_dir,
                    name,
                    hashlib.sha256(key.encode()).hexdigest(),
                    functools.partial(self._decode, files, part),
                )
            except _Unreadable as error:
                unreadable += error.files
        if unreadable:
            raise ConfigError(
                _list_up(f"{len(unreadable)} files of {self.path!r} cannot be read", unreadable)
                + "\nallowed: whole JPEG, PNG and WebP files; take these out or replace them"
            )
        return Parts(splits, class_names, {"source": self.short_name, "image_px": self.image_px})

    def _decode(self, files: Sequence[_File], part: str) -> Split:
        """Decodes files, in their order."""
        logging.info("decoding %s %s: %d images", self.path, part, len(files))
        images = np.empty((len(files), self.image_px, self.image_px, 3), np.uint8)
        unreadable = []
        # On a terminal a bar appears once decoding has taken two seconds.
        bar = tqdm(total=len(files), desc=f"decoding {self.short_name} {part}", unit=" images", delay=2, disable=None)
        with bar, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for i, image in enumerate(pool.map(lambda file: _read_image(file.path, self.image_px), files)):
                if isinstance(image, str):
                    unreadable.append(f"{files[i].id}: {image}")
                else:
                    images[i] = image
                bar.update()
        if unreadable:
            raise _Unreadable(unreadable)
        return Split(images, np.array([file.label for file in files]), np.array([file.id for file in files]))


class _File(NamedTuple):
    """A file, its path below the folder of all, and its class."""

    path: pathlib.Path
    id: str
    label: int

    @property
    def state(self) -> tuple[str, int, int]:
        """What changes where the file is replaced."""
        try:
            state = self.path.stat()
        except OSError:  # a link to nowhere: decoding will say so
            return self.id, -1, -1
        return self.id, state.st_size, state.st_mtime_ns


class _Unreadable(Exception):
    """Files cannot be read; each with the reason."""

    def __init__(self, files: list[str]):
        super().__init__()
        self.files = files


def _folders_of_parts(root: pathlib.Path) -> tuple[str, ...]:
    """Those of `PARTS` for which there is a folder; () where the folders are those of classes."""
    if not root.is_dir():
        raise ConfigError(f"the folder of images {str(root)!r} does not exist; allowed: a folder that does")
    names = [path.name for path in _visible(root) if path.is_dir()]
    has = tuple(part for part in PARTS if part in names)
    if has and (others := [name for name in names if name not in PARTS]):
        raise ConfigError(
            f"the folder of images {str(root)!r} has the folders {', '.join(has)} and {others[0]!r}"
            f"; allowed: {', '.join(PARTS)}, or folders of classes alone"
        )
    return has


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """What is in a folder and does not begin with a dot, by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _list_up(what: str, lines: Sequence[str]) -> str:
    return "".join([what, ":", *(f"\n  {line}" for line in lines)])


def _read_image(path: pathlib.Path, image_px: int) -> np.ndarray | str:
    """Returns the image uint8 [image_px, image_px, 3], or why there is none."""
    try:
        with Image.open(path, formats=_FORMATS) as opened:
            image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16 bits; Pillow would cut them off above 255
            image = Image.fromarray((np.asarray(image).astype(np.int32) >> 8).astype(np.uint8))
        if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
        side = min(image.size)
        left, top = ((length - side) // 2 for length in image.size)  # whole pixels: what fits is not blurred
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((image_px, image_px), Image.Resampling.BILINEAR, box=box))
    except UnidentifiedImageError:
        return "no JPEG, PNG or WebP file"
    except Exception as error:  # Pillow lets pass whatever its decoders raise on damaged files
        return " ".join(str(error).split()) or type(error).__name__
