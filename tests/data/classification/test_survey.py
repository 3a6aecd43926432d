"""What a run says of the images that it finds."""

from pathlib import Path

from data.classification.places import open_sources
from data.classification.survey import survey
from data.preprocessing import Preprocessing
from tests.photos import write_photos

SEEN = Preprocessing(32, (0, 0, 0), (1, 1, 1))


def test_images_with_and_without_parts_of_their_own_are_all_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photos(Path('photos'), 15)
    found = survey(*open_sources(Path('photos'), SEEN))
    assert found.sentence() == 'photos: 15 images of 3 classes, 5 of each; all of 48 x 48 pixels'
    for part, images, side in (('train', 9, 48), ('val', 4, 60)):
        write_photos(Path('split', part), images, side)
    found = survey(*open_sources(Path('split'), SEEN))
    assert (found.images, found.held_out) == (9, 4)
    assert found.sentence() == (
        'split/train and split/val: 13 images of 3 classes, 4 to 5 of each; 48 x 48 to 60 x 60 pixels, the middle one '
        '48 x 48'
    )
    first, second, warning = found.lines(SEEN)
    assert second.startswith('split/train and split/val: each is scaled to a short side of 32 pixels')
    assert warning.startswith('warning: each image is scaled down to 32 x 32 pixels')
