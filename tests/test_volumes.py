"""Volumes: read, prepared once, and served in patches that are the same in every run."""

import dataclasses
import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from keras_lgmsnet.data import cache
from keras_lgmsnet.data.augmentation import VolumeAugmentation
from keras_lgmsnet.data.patches import PatchBatches, PreparedVolume, prepare_volumes
from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.data.volumes import VolumeSource, load_volumes
from keras_lgmsnet.geometry import canonical_grid, foreground_box
from keras_lgmsnet.recipe.schema import VolumeData
from tests.helpers.volumes import make_source
from tfds_builders._testing import AFFINE, SPACING, label_map, voxels
from tfds_builders.msd_folder import msd_folder_dataset_builder_test as msd

pytestmark = pytest.mark.no_backend

CT = VolumeFingerprint(
    num_volumes=1,
    channels=("CT",),
    labels=("background", "organ"),
    spacing=(1.0, 1.0, 1.0),
    normalization="window",
    intensity_windows=((-100.0, 100.0),),
    ranges={},
)


def make_volume(shape: tuple[int, int, int], *, seed: int = 0, empty: bool = False):
    """A prepared volume whose image tells its labels and its voxels' positions."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, "uint8") if empty else rng.choice(3, shape, p=[0.9, 0.08, 0.02])
    position = np.arange(labels.size).reshape(shape)
    image = np.stack([labels, position // 64, position % 64], axis=-1).astype("float16")
    return PreparedVolume(image, labels.astype("uint8"), np.flatnonzero(labels).astype("uint32"))


VOLUMES = {f"volume{n}": make_volume((9 + n, 8, 7), seed=n) for n in range(5)}


def served(epoch: int = 0, *, batch_size: int = 2, patch_size=(4, 5, 3), **options) -> list:
    batches = PatchBatches(VOLUMES, list(VOLUMES), patch_size, batch_size, **options)
    batches.set_epoch(epoch)
    return [batches[index] for index in range(len(batches))]


# load_volumes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    msd.TestArchive.write_archive(tmp_path / "manual")
    return tmp_path / "manual"


def load(folder: Path) -> VolumeSource:
    return load_volumes("msd_folder", folder, folder.parent / "data", progress=False)


def test_a_folder_of_volumes_is_opened_and_read(folder: Path) -> None:
    source = load(folder)
    assert sorted(source.ids) == list(msd.TestArchive.ids)
    assert source.groups == source.ids
    assert source.labels == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert source.channels == ["MRI"]
    assert source.dataset.startswith("msd_folder@")
    for number, id_ in enumerate(msd.TestArchive.ids):
        example = source.read(id_)
        assert example.id == id_
        assert (example.image.dtype, example.segmentation_mask.dtype) == (np.float32, np.uint8)
        np.testing.assert_array_equal(example.image[..., 0], voxels(number))
        np.testing.assert_array_equal(example.segmentation_mask, label_map(number))
        np.testing.assert_allclose(example.grid.affine, AFFINE)
        assert example.grid.spacing == pytest.approx(SPACING)
    with pytest.raises(ValueError, match=r"3 volumes of msd_folder@.* Received: 'hippocampus_9'"):
        source.read("hippocampus_9")
    assert source.folder.is_relative_to(folder.parent / "data")
    assert source.describe_remarks() is None


def test_a_volume_that_lies_elsewhere_than_its_sform_has_it_is_remarked_on(folder: Path) -> None:
    id_ = msd.TestArchive.ids[1]
    path = folder / "imagesTr" / f"{id_}.nii.gz"
    nifti = nibabel.load(path)
    nifti.set_qform(AFFINE, 1)
    content = bytearray(nifti.to_bytes())
    struct.pack_into("<12f", content, 280, *(AFFINE @ np.diag([2, 2, 2, 1]))[:3].ravel())
    path.write_bytes(gzip.compress(content))
    source = load(folder)
    np.testing.assert_allclose(source.read(id_).grid.affine, AFFINE, atol=1e-5)
    assert source.remarks.keys() == {id_}
    assert source.describe_remarks().startswith(
        f"Of 1 of 3 volumes, such as {id_}: the qform counts, since the sform has voxels of "
    )
    assert load(folder).remarks == source.remarks  # kept with the prepared copy


def test_labels_that_leave_a_number_out_are_refused(folder: Path) -> None:
    msd.describe(folder, labels={"0": "background", "1": "a", "2": "b", "4": "c"})
    with pytest.raises(ValueError, match=r"1, 2 and so on without a gap; renumber .* 4: 'c'"):
        load(folder)


# prepare_volumes


def test_volumes_are_oriented_resampled_normalised_and_cropped(tmp_path: Path) -> None:
    image = np.full((4, 3, 2), -1000.0)
    image[1, 1, 0], image[2, 1, 1] = 50, 300
    labels = np.zeros((4, 3, 2))
    labels[1, 1, 0] = 2
    # The first axis runs to the left: the volume is turned round along it.
    source = make_source(tmp_path, [image], [labels], affine=np.diag([-1, 1, 1, 1]))
    volume = prepare_volumes(source, source.ids, CT, progress=False)["volume0"]
    assert (volume.image.dtype, volume.segmentation_mask.dtype) == (np.float16, np.uint8)
    np.testing.assert_array_equal(volume.image[..., 0], [[[0, 1]], [[0.75, 0]]])
    np.testing.assert_array_equal(volume.segmentation_mask, [[[0, 0]], [[2, 0]]])
    np.testing.assert_array_equal(volume.labelled, [2])

    whole = prepare_volumes(source, source.ids, CT, crop_foreground=False, progress=False)
    assert whole["volume0"].image.shape == (4, 3, 2, 1)
    coarse = dataclasses.replace(CT, spacing=(2.0, 1.0, 1.0))
    coarse_volumes = prepare_volumes(
        source, source.ids, coarse, crop_foreground=False, progress=False
    )
    expected = canonical_grid(source.read("volume0").grid, (2.0, 1.0, 1.0)).shape
    assert coarse_volumes["volume0"].segmentation_mask.shape == expected == (2, 3, 2)


@pytest.mark.parametrize("far", [-1e6, 1e6])
def test_prepared_voxels_are_finite(far: float, tmp_path: Path) -> None:
    image = np.random.default_rng(0).uniform(0, 3, (40, 30, 20))
    image[0, 0, 0] = far
    source = make_source(tmp_path, [image], [image > 2])
    fingerprint = dataclasses.replace(CT, normalization="z_score", intensity_windows=None)
    volume = prepare_volumes(
        source, source.ids, fingerprint, crop_foreground=False, progress=False
    )["volume0"]
    assert np.abs(volume.image).max() <= 100


class Counter(list):
    """Examples that count how often one is read."""

    count = 0

    def __getitem__(self, index):
        self.count += 1
        return super().__getitem__(index)


def test_a_volume_is_prepared_once_for_each_way_of_reading_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.uniform(-200, 200, (2, 4, 4, 4))
    source = make_source(tmp_path, images, rng.integers(0, 3, images.shape))
    source = dataclasses.replace(source, examples=Counter(source.examples))
    fingerprints = [
        CT,
        dataclasses.replace(CT, spacing=(2.0, 1.0, 1.0)),
        dataclasses.replace(CT, intensity_windows=((-100.0, 200.0),)),
        dataclasses.replace(CT, normalization="z_score", intensity_windows=None),
    ]
    for _ in range(2):
        for fingerprint in fingerprints:
            prepare_volumes(source, source.ids, fingerprint, progress=False)
        prepare_volumes(source, source.ids, CT, crop_foreground=False, progress=False)
    assert source.examples.count == 2 * 5
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert len(folders) == 5
    assert sum(name.startswith("volumes-v1-2x1x1mm-") for name in folders) == 1
    first = tmp_path / folders[0]
    assert [path.name for path in sorted(first.iterdir())] == ["00000.npy", "00001.npy"]
    # Whoever trains on other volumes, such as another fold, shares what is there.
    prepare_volumes(source, source.ids[1:], CT, progress=False)
    assert source.examples.count == 2 * 5


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells open files on Linux only")
def test_more_volumes_than_files_may_be_open(tmp_path: Path) -> None:
    import resource  # which other systems lack

    images = np.random.default_rng(0).uniform(-200, 200, (20, 4, 4, 4))
    source = make_source(tmp_path, images, np.ones_like(images))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, limits[1]))
    try:
        fingerprint = VolumeFingerprint.of_volumes(
            source, source.ids, VolumeData(source="test"), progress=False
        )
        volumes = prepare_volumes(source, source.ids, fingerprint, progress=False)
        assert sum(volume.labelled.size for volume in volumes.values()) == 20 * 64
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_volumes_that_cannot_be_kept_are_prepared_once(tmp_path: Path, monkeypatch) -> None:
    image = np.random.default_rng(0).uniform(-200, 200, (4, 4, 4))
    source = make_source(tmp_path, [image], [np.ones_like(image)])
    source = dataclasses.replace(source, examples=Counter(source.examples))
    monkeypatch.setattr(cache, "_has_room", lambda folder, size: folder != tmp_path / folder.name)
    volumes = prepare_volumes(source, source.ids, CT, progress=False)
    first, again = volumes["volume0"], volumes["volume0"]
    np.testing.assert_array_equal(first.image, again.image)
    assert source.examples.count == 1
    assert not list(tmp_path.iterdir())
    assert list(volumes) == ["volume0"]
    with pytest.raises(KeyError):
        volumes["volume1"]


# foreground_box


def test_foreground_is_brighter_than_the_darkest_in_any_channel() -> None:
    image = np.zeros((5, 6, 7, 2))
    image[..., 1] = -3
    image[1, 2, 3, 0] = 0.1
    image[3, 2, 5, 1] = -2
    assert foreground_box(image) == (slice(1, 4), slice(2, 3), slice(3, 6))


def test_an_image_of_one_value_is_not_cropped() -> None:
    image = np.full((2, 3, 4, 1), 7.0)
    assert image[foreground_box(image)].shape == image.shape


# PatchBatches


def test_a_batch_holds_the_patches_of_its_volumes() -> None:
    batches = served(batch_size=2, patches_per_volume=3)
    assert [len(images) for images, _ in batches] == [6, 6, 3]
    for images, labels in batches:
        assert images.shape[1:] == (4, 5, 3, 3)
        assert labels.shape == images.shape[:-1]
        assert (images.dtype, labels.dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(images[..., 0], labels)


def test_patches_are_cut_out_of_their_volumes() -> None:
    for images, labels in served(patches_per_volume=2):
        for image, patch in zip(images, labels, strict=True):
            start = int(64 * image[0, 0, 0, 1] + image[0, 0, 0, 2])
            assert any(
                np.array_equal(volume.image[region], image)
                and np.array_equal(volume.segmentation_mask[region], patch)
                for volume in VOLUMES.values()
                if start < volume.segmentation_mask.size
                for x, y, z in [np.unravel_index(start, volume.segmentation_mask.shape)]
                for region in [(slice(x, x + 4), slice(y, y + 5), slice(z, z + 3))]
            )


def test_each_epoch_has_every_volume_once_in_an_order_of_its_own() -> None:
    volumes = {
        str(n): dataclasses.replace(VOLUMES["volume0"], image=VOLUMES["volume0"].image * 0 + n)
        for n in range(20)
    }
    batches = PatchBatches(volumes, list(volumes), (2, 2, 2), 20, patches_per_volume=2)
    orders = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        pairs = batches[0][0][:, 0, 0, 0, 0].reshape(20, 2)
        np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
        orders.append(pairs[:, 0].tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    assert orders[0] != orders[1]


def test_patches_depend_on_seed_epoch_volume_and_number_alone() -> None:
    def patches(epoch: int = 0, *, seed: int = 0, **options) -> list[bytes]:
        batches = served(epoch, seed=seed, augmentation=VolumeAugmentation(0.5, 0.5), **options)
        return sorted(image.tobytes() for images, _ in batches for image in images)

    reference = patches()
    assert len(reference) == 20
    assert len(set(reference)) > 15
    assert patches(batch_size=5) == reference
    assert patches(1) != reference
    assert patches(seed=1) != reference
    # With more patches of a volume, the first stay the same.
    assert set(reference) < set(patches(patches_per_volume=6))


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_as_many_patches_are_positive_as_asked_for(fraction) -> None:
    volume = {"a": make_volume((9, 9, 9))}
    batches = PatchBatches(
        volume, ["a"], (1, 1, 1), 1, patches_per_volume=1000, positive_fraction=fraction
    )
    labels = batches[0][1]
    assert np.mean(labels > 0) == pytest.approx(fraction, abs=0.05 * (0 < fraction < 1))
    if fraction:  # each labelled voxel is as likely
        share = np.mean(volume["a"].segmentation_mask[volume["a"].segmentation_mask > 0] == 2)
        assert np.mean(labels[labels > 0] == 2) == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("label", [0, 1])
def test_volumes_of_one_label_are_served(label) -> None:
    labels = np.full((3, 3, 3), label, "uint8")
    volume = PreparedVolume(np.zeros((3, 3, 3, 1), "float16"), labels, np.flatnonzero(labels))
    images, patches = PatchBatches({"a": volume}, ["a"], (2, 2, 2), 1)[0]
    assert images.shape == (4, 2, 2, 2, 1)
    assert np.all(patches == label)


def test_a_small_volume_is_centred_and_continued() -> None:
    labels = np.array([[[1, 2]]], "uint8")
    image = np.array([[[[0.5], [0.75]]]], "float16")
    volume = PreparedVolume(image, labels, np.array([0, 1], "uint32"))
    images, patches = PatchBatches({"a": volume}, ["a"], (2, 1, 5), 1)[0]
    expected = [[0.5, 0.5, 0.75, 0.75, 0.75]]  # one voxel before, two behind
    for patch in images:
        np.testing.assert_array_equal(patch[..., 0], [expected, expected])
    for patch in patches:
        np.testing.assert_array_equal(patch, [[[1, 1, 2, 2, 2]]] * 2)


def test_padding_is_that_of_sliding_windows() -> None:
    from keras_lgmsnet.inference.windows import sliding_window

    volume = make_volume((3, 6, 2))
    seen = []

    def remember(windows: np.ndarray) -> np.ndarray:
        seen.append(windows)
        return windows[..., :1]

    sliding_window(remember, volume.image.astype("float32"), (5, 6, 7))
    images, _ = PatchBatches({"a": volume}, ["a"], (5, 6, 7), 1)[0]
    np.testing.assert_array_equal(images[0], seen[0][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"patch_size": (4, 4)}, r"patch_size=\(4, 4\)"),
        ({"patch_size": (4, 0, 4)}, r"patch_size=\(4, 0, 4\)"),
        ({"patches_per_volume": 0}, "patches_per_volume=0"),
        ({"positive_fraction": 1.5}, "positive_fraction=1.5"),
        ({"ids": []}, "none"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message) -> None:
    given_arguments = {"ids": list(VOLUMES), "patch_size": (4, 4, 4), "batch_size": 1} | arguments
    with pytest.raises(ValueError, match=f"Received: {message}"):
        PatchBatches(VOLUMES, **given_arguments)
