"""Image-classification data: loaded once, kept as uint8, split by seed."""

from tfaug.extras import explained

with explained():
    from tfaug.data.cache import user_cache_dir
    from tfaug.data.load import DataConfig, ImageData, load_data, load_others, load_test_set
    from tfaug.data.sources import (
        SOURCES,
        Augmented,
        CorruptedDigits,
        Digits,
        Folder,
        Npz,
        Parts,
        Photos,
        Source,
        Tfds,
        read_source,
    )
    from tfaug.data.split import Split, balanced_subset, stratified_split

__all__ = [
    "SOURCES",
    "Augmented",
    "CorruptedDigits",
    "DataConfig",
    "Digits",
    "Folder",
    "ImageData",
    "Npz",
    "Parts",
    "Photos",
    "Source",
    "Split",
    "Tfds",
    "balanced_subset",
    "load_data",
    "load_others",
    "load_test_set",
    "read_source",
    "stratified_split",
    "user_cache_dir",
]
