"""List what was published about each network, with its sources.

Parameters and MACs are counted (:mod:`model.count`) and checked against the originals' in the tests, since the printed
ones are rounded. Accuracies are per cent, as printed, or read off a figure where ``source`` says so.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence

__all__ = ['PUBLISHED', 'Published']

ATAC = 'Dai et al., Attention as Activation, arXiv 2007.07729'
RESIDUAL_ATTENTION = 'Wang et al., Residual Attention Network for Image Classification, arXiv 1704.06904'
DCA = 'Ma et al., DCANet: Learning Connected Attentions for Convolutional Neural Networks, arXiv 2007.05099'
SIMAM = 'Yang et al., SimAM: A Simple, Parameter-Free Attention Module for CNNs, ICML 2021, PMLR 139'
COORDINATE = 'Hou et al., Coordinate Attention for Efficient Mobile Network Design, arXiv 2103.02907'
TRIPLET = 'Misra et al., Rotate to Attend: Convolutional Triplet Attention Module, arXiv 2010.03045'
AFF = 'Dai et al., Attentional Feature Fusion, arXiv 2009.14082'
DIA = 'Huang et al., DIANet: Dense-and-Implicit Attention Network, arXiv 1905.10671'


class Published(NamedTuple):
    """``params`` are trainable; ``macs`` for one image of the usual size; ``accuracy`` maps data set to per cent.

    All are those of ``get_model(name, **options)``.
    """

    paper: str
    params: int
    macs: int
    accuracy: Dict[str, float]
    source: str
    options: Mapping[str, Any] = {}


def _atac_cifar(blocks: int, act: str, params: int, macs: int, top1: float) -> Dict[str, Published]:
    # Their CIFAR-100 accuracies are left out: the repository trains on the 20 superclasses.
    name = f'cifar_{act}resnet{6 * blocks + 2}_v2'
    return {name: Published(ATAC, params, macs, {'cifar10': top1}, 'figure 7, read off to 0.05')}


def _dia_cifar(
    backbone: str, params: Sequence[int], macs: Sequence[int], top1: Sequence[float], **options: Any
) -> Dict[str, Published]:
    # The plain backbone, then with DIA.
    source = 'README of gbup-group/DIANet, mean of five runs'
    names = f'cifar_{backbone}', f'cifar_dia_{backbone}'
    return {
        name: Published(DIA, *counts, {'cifar100': accuracy}, source, {'classes': 100, **options})
        for name, counts, accuracy in zip(names, zip(params, macs), top1)
    }


# Network: parameters, multiply-adds, top-1, and the options that give the published number of parameters where the
# published code gives another. Connected networks have a few parameters less here: the original also declares the first
# unit's connection, which nothing passes. Its table leaves the adapters out of DCA-CBAM-ResNet-50's multiply-adds.
_DCA_IMAGENET = {
    'resnet50_v1b': (25_557_032, 4_089_184_256, 75.90),
    'se_resnet50_v1b': (28_088_024, 4_091_699_200, 77.29),
    'dca_se_resnet50_v1b': (28_645_285, 4_092_244_992, 77.55, {'adapter': 'bottleneck'}),
    'sk_resnet50_v1b': (37_118_080, 5_939_108_096, 77.79),
    'dca_sk_resnet50_v1b': (37_482_458, 5_939_467_008, 77.94),
    'ge_resnet50_v1b': (25_557_032, 4_089_184_256, 76.24),
    'dca_ge_resnet50_v1b': (26_114_293, 4_089_730_048, 76.75, {'adapter': 'bottleneck'}),
    'gc_resnet50_v1b': (28_105_032, 4_097_218_560, 74.90),
    'dca_gc_resnet50_v1b': (28_625_399, 4_097_734_656, 75.42),
    'cbam_resnet50_v1b': (28_089_624, 4_095_573_110, 77.28),
    'dca_cbam_resnet50_v1b': (30_882_704, 5_328_757_878, 77.83),
    'mnasnet1_0': (4_383_312, 314_415_872, 71.72),
    'se_mnasnet1_0': (4_421_688, 314_452_432, 69.69),
    'dca_se_mnasnet1_0': (4_478_334, 314_506_528, 71.76),
    'ge_mnasnet1_0': (4_383_312, 314_415_872, 72.72),
    'dca_ge_mnasnet1_0': (4_480_629, 314_510_960, 72.82),
    'cbam_mnasnet1_0': (4_423_288, 315_761_522, 69.13),
    'dca_cbam_mnasnet1_0': (4_557_006, 329_490_034, 71.00),
    'mobilenet_v2': (3_504_872, 300_774_272, 71.03),
    'se_mobilenet_v2': (3_563_492, 300_831_200, 72.05),
    'dca_se_mobilenet_v2': (3_644_492, 300_910_080, 73.24),
    'sk_mobilenet_v2': (5_277_248, 323_182_784, 74.05),
    'dca_sk_mobilenet_v2': (5_911_652, 323_801_216, 74.45),
    'ge_mobilenet_v2': (3_504_872, 300_774_272, 72.28),
    'dca_ge_mobilenet_v2': (3_585_888, 300_853_152, 72.47),
    'cbam_mobilenet_v2': (3_565_192, 303_116_256, 71.91),
    'dca_cbam_mobilenet_v2': (3_645_592, 318_676_768, 73.04),
}


# Network, parameters, multiply-adds and top-1. The counts are those of the authors' Caffe files of these names.
_ATTENTION_NEXT = [
    (
        'attentionnext56',
        31_318_824,
        6_419_106_816,
        78.8,
        'README of fwang91/residual-attention-network, single crop',
    ),
]
# By depth: parameters and multiply-adds as counted here, and the error on CIFAR-10. The paper prints 1.9, 5.1 and 8.6 M
# parameters of 92, 236 and 452 layers; with its 100 classes there are 1.86, 5.11 and 8.77 M.
_ATTENTION_CIFAR = {
    56: (1_030_394, 122_825_216, 5.52),
    92: (1_841_274, 211_913_216, 4.99),
    128: (2_652_154, 301_001_216, 4.44),
    164: (3_463_034, 390_089_216, 4.31),
    236: (5_084_794, 568_265_216, 4.14),
    452: (8_745_850, 936_757_760, 3.90),
}
_ATTENTION_CIFAR_SOURCE = 'the paper, as transcribed in zlcrrrr/ECBM4040_Project; the widths are our reading'


def _dca_imagenet(params: int, macs: int, top1: float, options: Optional[Mapping[str, Any]] = None) -> Published:
    return Published(DCA, params, macs, {'imagenet': top1}, 'README of 13952522076/DCANet', options or {})


# Units without DCA, on ImageNet: paper, source, then as above. The counts are ours; rounded, they are those printed
# (open-aff's are cut off: 30.3 M and 35.1 M).
_SIMAM = 'README of ZjjConan/SimAM'
_TRIPLET = 'README of landskape-ai/triplet-attention'
_AFF = 'README of YimianDai/open-aff'
_DEEP = {'deep_stem': True, 'avg_down': True}
_WITHOUT_DCA = {
    'simam_resnet18_v1b': (SIMAM, _SIMAM, 11_689_512, 1_814_073_344, 71.31),
    'simam_resnet34_v1b': (SIMAM, _SIMAM, 21_797_672, 3_663_761_408, 74.49),
    'simam_resnet50_v1b': (SIMAM, _SIMAM, 25_557_032, 4_089_184_256, 77.45),
    'simam_resnet101_v1b': (SIMAM, _SIMAM, 44_549_160, 7_801_405_440, 78.65),
    'simam_mobilenet_v2': (SIMAM, _SIMAM, 3_504_872, 300_774_272, 72.36, {'final_drop': 0.0}),
    'ca_mobilenet_v2': (
        COORDINATE,
        'README of houqb/CoordAttention',
        3_950_648,
        306_666_368,
        74.3,
        {'final_drop': 0.1},
    ),
    'triplet_resnet50_v1b': (TRIPLET, _TRIPLET, 25_561_832, 4_135_500_918, 77.48),
    'triplet_mobilenet_v2': (TRIPLET, _TRIPLET, 3_509_972, 306_997_664, 71.99, {'final_drop': 0.25}),
    'aff_resnet50_v1b': (AFF, _AFF, 30_373_192, 4_562_395_136, 79.1, {**_DEEP, 'doubled': True}),
    'iaff_resnet50_v1b': (AFF, _AFF, 35_170_120, 4_795_965_440, 79.8, _DEEP),
}


def _without_dca(
    paper: str, source: str, params: int, macs: int, top1: float, options: Optional[Mapping[str, Any]] = None
) -> Published:
    return Published(paper, params, macs, {'imagenet': top1}, source, options or {})


PUBLISHED: Dict[str, Published] = {
    'atac_resnet50_v1b': Published(
        ATAC, 27_934_760, 4_397_465_600, {'imagenet': 78.59}, 'table IV and the log in YimianDai/open-atac'
    ),
    **_atac_cifar(1, '', 77_850, 12_501_632, 89.5),
    **_atac_cifar(2, '', 175_066, 26_657_408, 92.0),
    **_atac_cifar(3, '', 272_282, 40_813_184, 93.0),
    **_atac_cifar(4, '', 369_498, 54_968_960, 93.6),
    **_atac_cifar(5, '', 466_714, 69_124_736, 93.8),
    **_atac_cifar(1, 'atac_', 89_578, 14_336_640, 90.6),
    **_atac_cifar(2, 'atac_', 198_218, 30_065_280, 92.7),
    **_atac_cifar(3, 'atac_', 306_858, 45_793_920, 93.6),
    **_atac_cifar(4, 'atac_', 415_498, 61_522_560, 94.1),
    **_dia_cifar('resnet164bn_v1', (1_727_284, 1_946_132), (247_669_760, 251_540_480), (73.43, 76.67)),
    **_dia_cifar('preresnet164', (1_726_388, 1_961_364), (247_669_760, 251_540_480), (76.53, 78.20)),
    **_dia_cifar('wrn52_4', (12_072_500, 12_298_516), (1_751_589_888, 1_753_310_208), (79.75, 80.99), block_drop=0.3),
    **_dia_cifar('resnext101_8x32d', (32_138_244, 33_006_020), (4_769_859_584, 4_779_321_344), (81.18, 82.46)),
    # The paper counts 31.9 M and 51.3 M parameters, rounded; the authors' Caffe files give these.
    'residual_attention56': Published(
        RESIDUAL_ATTENTION,
        31_810_728,
        6_270_836_736,
        {'imagenet': 78.24},
        'README of fwang91/residual-attention-network, single crop',
    ),
    'residual_attention92': Published(
        RESIDUAL_ATTENTION,
        52_466_344,
        10_533_789_696,
        {'imagenet': 80.5},
        'README of fwang91/residual-attention-network, single crop of 320 pixels',
    ),
    'residual_attention92_448': Published(
        RESIDUAL_ATTENTION,
        52_810_920,
        12_825_729_024,
        {},
        'no accuracy was published; counts of tengshaofeng/ResidualAttentionNetwork-pytorch without unused weights',
    ),
    'cifar_residual_attention92': Published(
        RESIDUAL_ATTENTION,
        12_170_730,
        1_089_185_792,
        {'cifar10': 95.4},
        'README of tengshaofeng/ResidualAttentionNetwork-pytorch; 96.65 with mixup',
        {'mask_additions': True},
    ),
    'cifar_residual_attention92_pooled': Published(
        RESIDUAL_ATTENTION,
        12_172_266,
        274_540_544,
        {'cifar10': 93.54},
        'issue 1 of tengshaofeng/ResidualAttentionNetwork-pytorch',
        {'mask_additions': True},
    ),
    **{
        name: Published(RESIDUAL_ATTENTION, params, macs, {'imagenet': top1}, source)
        for name, params, macs, top1, source in _ATTENTION_NEXT
    },
    **{
        f'cifar_residual_attention{depth}_paper': Published(
            RESIDUAL_ATTENTION, params, macs, {'cifar10': round(100 - error, 2)}, _ATTENTION_CIFAR_SOURCE
        )
        for depth, (params, macs, error) in _ATTENTION_CIFAR.items()
    },
    **{name: _dca_imagenet(*row) for name, row in _DCA_IMAGENET.items()},
    **{name: _without_dca(*row) for name, row in _WITHOUT_DCA.items()},
}
