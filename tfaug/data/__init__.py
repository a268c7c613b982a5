"""Image-classification data: loaded once, kept as uint8, split by seed."""

from tfaug.extras import explained

with explained():
    from tfaug.data.load import DataConfig, ImageData, load_data, load_test_set, shifted_description, user_cache_dir
    from tfaug.data.split import Split, balanced_subset, stratified_split

__all__ = [
    "DataConfig",
    "ImageData",
    "Split",
    "balanced_subset",
    "load_data",
    "load_test_set",
    "shifted_description",
    "stratified_split",
    "user_cache_dir",
]
