"""List what the papers claim, and which trainings of ours bear on it."""

from __future__ import annotations

from typing import NamedTuple, Tuple

__all__ = ['CLAIMS', 'Case', 'Claim']


class Case(NamedTuple):
    """A comparison of two networks that were trained alike.

    Attributes:
        study: a folder of `params/`, or the name of a trial in `results/trials/`.
        contender, baseline: folders in that, or rows of the trial.
        published: the published difference in points, with the setting where that is another; '' if it is not at hand.
    """

    study: str
    contender: str
    baseline: str
    published: str = ''


class Claim(NamedTuple):
    """A claim that the contender is more accurate than the baseline, its source, and the comparisons that test it."""

    paper: str
    source: str
    says: str
    cases: Tuple[Case, ...]


ATAC, DIA, DCA, RESIDUAL = 'ATAC', 'DIANet', 'DCANet', 'Residual Attention'
CIFAR = 'cifar10'
PORT = 'cifar_residual_attention92'

CLAIMS = (
    Claim(
        ATAC,
        'figure 7',
        'ATAC in place of ReLU at equal depth',
        (
            Case(CIFAR, 'cifar_atac_resnet20_v2', 'cifar_resnet20_v2', '+0.6'),
            Case(CIFAR, 'cifar_atac_resnet14_v2', 'cifar_resnet14_v2', '+0.7'),
            Case('open-atac-figure7', 'cifar_atac_resnet8_v2', 'cifar_resnet8_v2', '+1.1'),
        ),
    ),
    Claim(
        ATAC,
        'figure 7',
        'ATAC against ReLU in a network of more layers',
        (Case('open-atac-figure7', 'cifar_atac_resnet26_v2', 'cifar_resnet32_v2', '+0.3'),),
    ),
    Claim(
        ATAC,
        'options of open-atac',
        'local context against global',
        (
            Case(CIFAR, 'cifar_atac_resnet14_v2', 'cifar_atac_resnet14_v2-act_global'),
            Case('open-atac-context', 'local', 'global'),
        ),
    ),
    Claim(ATAC, 'options of open-atac', 'a ReLU inside the unit', (Case('open-atac-inner-relu', 'with', 'without'),)),
    Claim(
        ATAC,
        'options of open-atac',
        'reduction r = 2 against larger ones',
        tuple(Case('open-atac-reduction', 'r2', f'r{r}') for r in (4, 8, 16)),
    ),
    Claim(
        ATAC,
        'title of the paper',
        'the unit as activation, not as attention beside a ReLU',
        tuple(Case('open-atac-placement', 'instead', place) for place in ('before', 'after')),
    ),
    Claim(
        DIA,
        'README of the code',
        'a DIA-LSTM against none',
        (
            Case(CIFAR, 'cifar_dia_resnet20_v2', 'cifar_resnet20_v2', '+3.24 (ResNet-164, CIFAR-100)'),
            Case(CIFAR, 'cifar_dia_resnet14_v2', 'cifar_resnet14_v2'),
        ),
    ),
    Claim(
        DIA,
        'trials of stability',
        'a DIA-LSTM against none, without batch norms',
        (Case('dianet-stability', 'dia_no_norms', 'plain_no_norms'),),
    ),
    Claim(
        DIA,
        'trials of stability',
        'a DIA-LSTM against none, without shortcuts',
        (Case('dianet-stability', 'dia_no_shortcuts', 'plain_no_shortcuts'),),
    ),
    Claim(
        DIA,
        'trials of stability',
        'a DIA-LSTM against none, without augmentation',
        (Case('dianet-stability', 'dia_no_augmentation', 'plain_no_augmentation'),),
    ),
    Claim(
        DCA,
        'table 1',
        'connected SE units against separate ones',
        (
            Case(CIFAR, 'cifar_dca_se_resnet20_v2', 'cifar_se_resnet20_v2', '+0.26 (ResNet-50, ImageNet)'),
            Case(CIFAR, 'cifar_dca_se_resnet14_v2', 'cifar_se_resnet14_v2'),
        ),
    ),
    Claim(
        DCA,
        'table 1',
        'connected CBAM units against separate ones',
        (
            Case(CIFAR, 'cifar_dca_cbam_resnet20_v2', 'cifar_cbam_resnet20_v2', '+0.55 (ResNet-50, ImageNet)'),
            Case(CIFAR, 'cifar_dca_cbam_resnet14_v2', 'cifar_cbam_resnet14_v2'),
        ),
    ),
    Claim(
        RESIDUAL,
        'table of learning',
        'residual attention learning against naive',
        (Case('residual-attention-learning', 'residual_56', 'naive_56', '+0.37'),),
    ),
    Claim(
        RESIDUAL,
        'README of the port',
        'mixup against none',
        (Case('residual-attention-port', f'{PORT}_mixup', PORT, '+1.25'),),
    ),
    Claim(
        RESIDUAL,
        'code of the port',
        "masks with the port's additions against the paper's",
        (Case('residual-attention-port', PORT, f'{PORT}_without_additions'),),
    ),
)
