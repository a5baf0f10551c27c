"""Prepared copies: which datasets are taken."""

from pathlib import Path

import pytest

from keras_lgmsnet.data.builders import prepare_dataset
from keras_lgmsnet.kinds import IMAGES, VOLUMES

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("btcv", IMAGES, "must be of images. Received: btcv, which has volumes"),
        ("msd_folder", IMAGES, "must be of images. Received: msd_folder, which has volumes"),
        ("busi/all", VOLUMES, "must be of volumes. Received: busi, which has images"),
        ("synapse", VOLUMES, "must be one of .*btcv.* Received: builder='synapse'"),
    ],
)
def test_datasets_of_another_kind_are_refused(tmp_path: Path, source, kind, message) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_dataset(source, kind, tmp_path, tmp_path, allow_incomplete=False, progress=False)
    assert not list(tmp_path.iterdir())
