"""Flags that change what is learned."""

import shlex

import pytest

import train_cifar
from environment import UsageError
from tests.train_cifar.runs import BASE, ORIGINAL, SMALL, TWO, Run

WIDE = f'{SMALL} --model cifar_wrn10_1'
GROUPED = f'{SMALL} --model cifar_resnext11_2x8d'
NORMS = f'{SMALL} --model cifar_dca_se_resnet8_v2'
WARM = TWO.replace('--limit-train 16', '--limit-train 32')
CYCLES = f'{TWO} --lr-mode cosine --cycle-epochs 1'

# Two command lines that only differ in the flag.
CHANGING = {
    'model': (BASE, f'{SMALL} --model cifar_atac_resnet8_v2'),
    'blocks': (ORIGINAL, ORIGINAL.replace('--blocks 1', '--blocks 2')),
    'act_type': (BASE, f'{BASE} --act-type swish'),
    'r': (ORIGINAL, ORIGINAL.replace('--r 2', '--r 4')),
    'act_layers': (ORIGINAL, f'{ORIGINAL} --act-layers 1'),
    'useGlobal': (ORIGINAL, f'{ORIGINAL} --useGlobal'),
    'useReLU': (ORIGINAL, f'{ORIGINAL} --useReLU'),
    'drop_rate': (BASE, f'{BASE} --drop-rate 0.5'),
    'block_drop': (WIDE, f'{WIDE} --block-drop 0.5'),
    'option': (BASE, f'{BASE} --option update_input_norm=false'),
    'mean': (BASE, f'{BASE} --mean 0,0,0'),
    'std': (BASE, f'{BASE} --std 1,1,1'),
    'crop_pad': (BASE, f'{BASE} --crop-pad 1'),
    'crop_border': (BASE, f'{BASE} --crop-border mirror'),
    'flip': (BASE, f'{BASE} --flip random'),
    'no_augment': (BASE, f'{BASE} --no-augment'),
    'batch_size': (BASE, BASE.replace('--batch-size 8', '--batch-size 4')),
    'limit_train': (BASE, BASE.replace('--limit-train 16', '--limit-train 24')),
    'num_epochs': (BASE, TWO),
    'lr': (BASE, f'{BASE} --lr 0.05'),
    'lr_mode': (BASE, f'{BASE} --lr-mode cosine'),
    'lr_decay': (f'{BASE} --lr-decay-epoch 0', f'{BASE} --lr-decay-epoch 0 --lr-decay 0.5'),
    'lr_decay_epoch': (BASE, f'{BASE} --lr-decay-epoch 0'),
    'lr_decay_period': (TWO, f'{TWO} --lr-decay-period 1'),
    'warmup_epochs': (WARM, f'{WARM} --warmup-epochs 1'),
    'warmup_lr': (f'{WARM} --warmup-epochs 1', f'{WARM} --warmup-epochs 1 --warmup-lr 0.05'),
    'warmup_steps': (TWO, f'{TWO} --warmup-steps 3'),
    'min_lr': (f'{TWO} --lr-mode cosine', f'{TWO} --lr-mode cosine --min-lr 0.05'),
    'cycle_epochs': (CYCLES.replace(' --cycle-epochs 1', ''), CYCLES),
    'cycle_mult': (CYCLES, f'{CYCLES} --cycle-mult 2'),
    'cycle_decay': (CYCLES, f'{CYCLES} --cycle-decay 0.5'),
    'layer_decay': (BASE, f'{BASE} --layer-decay 0.5'),
    'head_lr': (BASE, f'{BASE} --head-lr 0.5'),
    'accumulate': (
        BASE.replace('--batch-size 8', '--batch-size 4'),
        BASE.replace('--batch-size 8', '--batch-size 4 --accumulate 4'),
    ),
    'clip_norm': (BASE, f'{BASE} --clip-norm 0.1'),
    'scale_lr': (BASE, f'{BASE} --scale-lr'),
    'optimizer': (TWO, f'{TWO} --optimizer sgd'),
    'muon_scale': (f'{TWO} --optimizer muon', f'{TWO} --optimizer muon --muon-scale 0.1'),
    'beta2': (f'{TWO} --optimizer adamw', f'{TWO} --optimizer adamw --beta2 0.9'),
    'epsilon': (f'{TWO} --optimizer adamw', f'{TWO} --optimizer adamw --epsilon 0.1'),
    'trust_clip': (f'{TWO} --optimizer lamb', f'{TWO} --optimizer lamb --trust-clip'),
    'momentum': (BASE, f'{BASE} --momentum 0.5'),
    'wd': (BASE, f'{BASE} --wd 0.01'),
    'no_wd': (BASE, f'{BASE} --no-wd'),
    'no_wd_depthwise': (GROUPED, f'{GROUPED} --no-wd-depthwise'),
    'wd_layer_norm': (f'{NORMS} --no-wd', f'{NORMS} --no-wd --wd-layer-norm'),
    'label_smoothing': (BASE, f'{BASE} --label-smoothing'),
    'loss': (BASE, f'{BASE} --loss bce'),
    'bce_target_threshold': (f'{BASE} --loss bce --mixup', f'{BASE} --loss bce --mixup --bce-target-threshold 0.2'),
    'bce_sum': (f'{BASE} --loss bce', f'{BASE} --loss bce --bce-sum'),
    'focal_gamma': (f'{BASE} --loss focal', f'{BASE} --loss focal --focal-gamma 1'),
    'class_weights': (BASE, f'{BASE} --class-weights auto'),
    'balanced_sampling': (BASE, f'{BASE} --balanced-sampling'),
    'label_noise': (BASE, f'{BASE} --label-noise 0.5'),
    'mixup': (BASE, f'{BASE} --mixup'),
    'mixup_alpha': (f'{BASE} --mixup', f'{BASE} --mixup --mixup-alpha 2'),
    'mixup_off_epoch': (f'{BASE} --mixup', f'{BASE} --mixup --mixup-off-epoch 1'),
    'cutmix_alpha': (BASE, f'{BASE} --cutmix-alpha 1'),
    'mixup_prob': (f'{BASE} --mixup', f'{BASE} --mixup --mixup-prob 0.1'),
    'mixup_switch_prob': (f'{BASE} --mixup --cutmix-alpha 1', f'{BASE} --mixup --cutmix-alpha 1 --mixup-switch-prob 0'),
    'auto_augment': (BASE, f'{BASE} --auto-augment trivial'),
    'ra_ops': (f'{BASE} --auto-augment rand', f'{BASE} --auto-augment rand --ra-ops 3'),
    'ra_magnitude': (f'{BASE} --auto-augment rand', f'{BASE} --auto-augment rand --ra-magnitude 20'),
    'ra_deviation': (f'{BASE} --auto-augment rand', f'{BASE} --auto-augment rand --ra-deviation 5'),
    'ra_share': (f'{BASE} --auto-augment rand', f'{BASE} --auto-augment rand --ra-share 0.5'),
    'random_erase': (BASE, f'{BASE} --random-erase 0.5'),
    'erase_max_area': (f'{BASE} --random-erase 1', f'{BASE} --random-erase 1 --erase-max-area 0.1'),
    'erase_mode': (f'{BASE} --random-erase 1', f'{BASE} --random-erase 1 --erase-mode const'),
    'aug_repeats': (BASE, f'{BASE} --aug-repeats 2'),
    'seed': (BASE, f'{BASE} --seed 1'),
}


@pytest.mark.parametrize('flag', CHANGING)
def test_flags_that_change_what_is_learned(run, flag):
    before, after = (run(flags) for flags in CHANGING[flag])
    assert before.digest != after.digest


def test_an_image_mirrors_no_further_than_it_is_wide():
    with pytest.raises(UsageError, match='--crop-pad is 32; allowed with --crop-border mirror here: 0 to 31'):
        train_cifar.main(shlex.split(f'{BASE} --crop-pad 32 --crop-border mirror'))


def test_muon_without_a_convolution_for_it_leaves_no_folder(tmp_path):
    flags = f'{BASE} --optimizer muon --option channels=[4,4,4,4]'
    with pytest.raises(UsageError, match='--optimizer muon is for convolutions of 8 filters or more'):
        train_cifar.main([*shlex.split(flags), '--save-dir', str(tmp_path / 'run')])
    assert not (tmp_path / 'run').exists()


def test_the_scale_of_muon_is_for_muon():
    with pytest.raises(UsageError, match='--muon-scale is for --optimizer muon, and it is nag'):
        train_cifar.main(shlex.split(f'{BASE} --muon-scale 0.1'))


def test_layer_norms_are_an_exception_from_something():
    with pytest.raises(UsageError, match='--wd-layer-norm is for --no-wd, from which it excepts layer norms'):
        train_cifar.main(shlex.split(f'{NORMS} --wd-layer-norm'))


def test_the_same_flags_give_the_same_bits(run, tmp_path):
    assert Run(tmp_path / 'again', BASE).digest == run(BASE).digest
    # Lambda is 1 in the last epochs, so it has no effect.
    assert run(f'{BASE} --mixup --mixup-off-epoch 1').digest == run(BASE).digest


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        ('--bce-sum', '--bce-sum is for --loss bce, and it is softmax'),
        ('--loss focal --bce-target-threshold 0.2', '--bce-target-threshold is for --loss bce, and it is focal'),
        ('--loss bce --focal-gamma 1', '--focal-gamma is for --loss focal, and it is bce'),
    ],
)
def test_parts_of_other_losses_are_refused(tmp_path, flags, said):
    with pytest.raises(UsageError, match=said):
        train_cifar.main([*shlex.split(f'{BASE} {flags}'), '--save-dir', str(tmp_path / 'run')])
    assert not (tmp_path / 'run').exists()


def test_without_augmentation_there_is_no_say_in_it():
    for flag in ('--crop-pad 2', '--crop-border mirror', '--flip random'):
        with pytest.raises(UsageError, match='is for changes of images, which --no-augment leaves out; leave it out'):
            train_cifar.main(shlex.split(f'{BASE} --no-augment {flag}'))
    for flag in ('--auto-augment rand', '--random-erase 0.5'):
        with pytest.raises(UsageError, match=f'--no-augment and {flag.split()[0]} are both given'):
            train_cifar.main(shlex.split(f'{BASE} --no-augment {flag}'))
