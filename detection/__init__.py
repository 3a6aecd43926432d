"""Detectors on attention backbones, by name.

from detection import get_detector
det = get_detector('retinanet_dca_se_resnet50_v1b', classes=80, adapter='bottleneck')
det.load_backbone('dca_se_resnet50_v1b.params')
boxes, scores, labels = det(images, sizes)
"""

import environment  # threads and NumPy's names, before MXNet is imported

if not hasattr(environment, 'need'):
    raise ImportError(f'{environment.__file__} hides the package environment of attention-networks; rename that file')
environment.need('kernels', 'model', 'data', 'inference', 'training')

from detection.zoo import get_detector

__all__ = ['get_detector']
