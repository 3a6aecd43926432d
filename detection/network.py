"""A loaded detector: how it differs from a loaded classifier."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from common.schema import shown
from common.text import printable
from data.coco.categories import Classes, is_id
from detection.predict import Detection
from detection.preprocessing import DetectionPreprocessing, Stored
from detection.zoo import get_detector
from environment import UserError
from inference.choices import DETECTORS
from inference.network import LoadedNetwork, without_training

__all__ = ['LoadedDetector']


@dataclass(frozen=True, repr=False)
class LoadedDetector(LoadedNetwork):
    """A detector: `net` takes images and their sizes, see `detection.get_detector`, which built it.

    Attributes:
        categories: the ids of the classes in COCO's files, if they are known.
    """

    categories: Optional[Tuple[int, ...]] = None

    task: ClassVar[str] = 'detection'
    batch_size: ClassVar[int] = 1
    proved_on: ClassVar[int] = 2
    exports: ClassVar[Tuple[str, ...]] = DETECTORS
    usual_exports: ClassVar[Optional[Tuple[str, ...]]] = ('mxnet',)
    export_options: ClassVar[Tuple[str, ...]] = ('canvas',)

    @staticmethod
    def build(name: str, options: Mapping[str, Any]) -> Any:
        return get_detector(name, **without_training(options))

    @classmethod
    def restored(
        cls, net: Any, name: str, options: Dict[str, Any], names: Optional[Sequence[str]], manifest: Dict[str, Any]
    ) -> LoadedDetector:
        known = manifest.get('preprocessing')
        preprocessing = DetectionPreprocessing() if known is None else DetectionPreprocessing.from_dict(known)
        count = getattr(net, 'classes', options.get('classes'))
        if names is None or (count is not None and len(names) != count):
            return cls(net, name, options, preprocessing, None, manifest)
        ids = manifest.get('categories')  # None in manifests from before ids were recorded
        if ids is not None and (
            not isinstance(ids, list) or len(ids) != len(names) or not all(map(is_id, ids)) or len(set(ids)) != len(ids)
        ):
            raise ValueError(
                f'categories is {shown(ids)}; allowed: {len(names)} different ids, one for each of class_names'
            )
        names = tuple(map(printable, names))
        return cls(net, name, options, preprocessing, names, manifest, None if ids is None else tuple(ids))

    @property
    def classes(self) -> Optional[Classes]:
        """Return the classes that the labels stand for, or None if unknown."""
        return None if self.class_names is None else Classes(self.class_names, self.categories)

    def titles(self, count: Optional[int] = None) -> Tuple[str, ...]:
        """Return the title of each label: its name if it has one, made distinct from others of that name."""
        if self.classes is not None:
            return self.classes.titles()
        return tuple(map(str, range(self.net.classes if count is None else count)))

    def optimized(
        self, precision: str, batch_size: int, engine: str = 'auto', calibration: Optional[Sequence[Any]] = None
    ) -> LoadedDetector:
        raise UserError(f'precision {precision} is for classifiers, and {self.name} is a detector; leave it out')

    def export(
        self,
        folder: os.PathLike[str],
        images: Sequence[Any],
        kinds: Sequence[str] = ('mxnet',),
        canvas: Optional[Tuple[int, int]] = None,
    ) -> Dict[str, Any]:
        from detection.export import export_detector

        return export_detector(self, folder, [self.preprocessing.read(image).pixels for image in images], kinds, canvas)

    @staticmethod
    def proof_lines(proof: Mapping[str, Any], kinds: Sequence[str], **_: Any) -> List[str]:
        found = f'{proof["boxes"]} boxes on {proof["images"]} images'
        lines = [f'largest difference {proof["difference"]:.1e} pixels, same classes, of {found}']
        for kind in kinds:
            figures = proof.get(kind)
            if figures:
                lines.append(
                    f'{kind}: largest difference {figures["difference"]:.1e} pixels; {figures["missed"]} of '
                    f'{figures["boxes"]} boxes are others, where rounding decided'
                )
        return lines

    def answers(
        self, names: Sequence[str], images: Sequence[Stored], top: int, threshold: float, ctx: Any
    ) -> List[Detection]:
        known, ctx = self.preprocessing, ctx or mx.current_context()
        data, sizes = known.batch([known.normalise(known.fit(pixels)) for pixels, _ in images])
        outputs = [each.asnumpy() for each in self.net(mx.nd.array(data, ctx=ctx), mx.nd.array(sizes, ctx=ctx))]
        found = []
        for name, (pixels, orientation), boxes, scores, labels in zip(names, images, *outputs):
            kept = (labels >= 0) & (scores >= threshold)
            boxes = known.original_boxes(boxes[kept], pixels.shape[1], pixels.shape[0])
            labels = labels[kept].astype(np.int64)
            titles = self.titles(1 + max(labels, default=-1)) if self.class_names is None else self.titles()
            found.append(Detection(name, boxes, scores[kept], labels, pixels, None, orientation, titles))
        return found

    @staticmethod
    def failed(name: str, error: str) -> Detection:
        empty = np.zeros(0, np.float32)
        return Detection(name, np.zeros((0, 4), np.float32), empty, empty.astype(np.int64), error=error)
