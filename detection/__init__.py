"""Detectors on attention backbones, by name.

from detection import get_detector
det = get_detector('retinanet_dca_se_resnet50_v1b', classes=80, adapter='bottleneck')
det.load_backbone('dca_se_resnet50_v1b.params')
boxes, scores, labels = det(images, sizes)
"""

import environment  # isort: skip  # noqa: F401  threads and NumPy's names, before MXNet is imported

from detection.zoo import get_detector

__all__ = ['get_detector']
