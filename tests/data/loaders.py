"""Make loaders from flat settings."""

from data.bad import Tolerance
from data.classification.decoder import Decoding
from data.classification.image_loader import ImageLoader
from data.classification.imagenet import image_loaders
from data.classification.loader import Loader
from data.sampler import Sampler
from detection.loader import DetectionLoader

DECODING = ('threads', 'ahead', 'cache', 'max_bad', 'other_cache')


def _decoding(settings):
    asked = {name: settings.pop(name) for name in DECODING if name in settings}
    return Decoding(tolerance=Tolerance(asked.pop('max_bad', 0), share=1.0), **asked)


def loader(dataset, batch_size, augment=False, seed=0, limit=None, **order):
    dataset = dataset if limit is None else dataset.limited(limit)
    return Loader(dataset, Sampler(batch_size, seed, **order), augment)


def image_loader(source, batch_size, augment=False, seed=0, limit=None, **settings):
    decoding = _decoding(settings)
    source = source if limit is None else source.limited(limit)
    return ImageLoader(source, Sampler(batch_size, seed, **settings), augment, decoding)


def loaders_of(train, val, batch_size, limit_train=None, limit_val=None, wrap_val=False, cache='auto', **settings):
    decoding = _decoding({'max_bad': 100, **settings, 'cache': cache})
    order = {name: value for name, value in settings.items() if name not in DECODING}
    parts = train.limited(limit_train), val.limited(limit_val)
    return image_loaders(*parts, Sampler(batch_size, **order), decoding, wrap_val)


def detection_loader(dataset, preprocessing, batch_size, train=False, seed=0, mirror=True, **settings):
    decoding = _decoding({'threads': 2, **settings})
    order = {name: value for name, value in settings.items() if name not in DECODING}
    return DetectionLoader(dataset, preprocessing, Sampler(batch_size, seed, train, **order), decoding, mirror)
