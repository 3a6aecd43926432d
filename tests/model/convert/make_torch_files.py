"""Make torch_files.zip: files as PyTorch and safetensors write them, and their contents as .npz.

python tests/model/convert/make_torch_files.py        # by hand; needs torch 2.13 and safetensors, as no test does
"""

import argparse
import collections
import os
import pathlib
import tempfile
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file

WIDE = ['float32', 'float64', 'float16', 'bfloat16', 'float8_e5m2', 'float8_e4m3fn']
TYPES = [*WIDE, 'float8_e5m2fnuz', 'float8_e4m3fnuz', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool']
TYPES += ['uint16', 'uint32', 'uint64']


def tensors():
    """Return tensors of each type, and placed in their storages in each way."""
    found = collections.OrderedDict()
    for name in TYPES:
        values = 4 * torch.randn(2, 3)
        found[name] = (values if 'float' in name else values.abs()).to(getattr(torch, name))
    base = torch.arange(24.0).reshape(4, 6)
    found.update({'shared': base, 'part': base[1:3], 'turned': base.t(), 'every second': base[:, ::2]})
    found.update({'repeated': torch.tensor([2.0]).expand(5), 'scalar': torch.tensor(3.5), 'empty': torch.zeros(0, 3)})
    found['parameter'] = torch.nn.Parameter(torch.randn(2, 2))
    found['parameter'].remark = 'an attribute of its own'
    return found


def checkpoint(module):
    """Return checkpoints as training scripts save them."""
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    return {
        'epoch': 3,
        'state_dict': module.state_dict(),
        'optimizer': optimizer.state_dict(),
        'schedule': schedule.state_dict(),
        'args': argparse.Namespace(lr=0.1, data=pathlib.Path('data')),
        'best': np.float64(3.5),
        'history': np.arange(4.0),
        'device': torch.device('cpu'),
        'size': torch.Size([1, 2]),
        'lists': collections.defaultdict(list, {'a': [1]}),
        'set': {1, 2},
        'model': None,
    }


def values(state):
    narrow = (torch.bfloat16, *(getattr(torch, name) for name in TYPES if 'float8' in name))
    return {name: (t.float() if t.dtype in narrow else t).detach().numpy() for name, t in state.items()}


def write(folder):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.PReLU())
    state, whole = tensors(), checkpoint(module)
    for name, zipped in (('', True), ('_old', False)):
        options = {'_use_new_zipfile_serialization': zipped}
        torch.save(state, folder / f'tensors{name}.pth', **options)
        torch.save(whole, folder / f'checkpoint{name}.pth.tar', **options)
        torch.save(whole, folder / f'checkpoint_protocol_5{name}.pth.tar', pickle_protocol=5, **options)
    kept = {name: tensor.detach().clone().contiguous() for name, tensor in state.items() if 'fnuz' not in name}
    save_file(kept, folder / 'tensors.safetensors', metadata={'format': 'pt'})
    np.savez(folder / 'tensors.npz', **values(state))
    np.savez(folder / 'checkpoint.npz', **values(module.state_dict()))
    torch.save(module, folder / 'module.pth')
    torch.save({'a': torch.eye(3).to_sparse()}, folder / 'sparse.pth')
    torch.save({'a': torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8)}, folder / 'quantized.pth')
    torch.save({'a': torch.zeros(3, device='meta')}, folder / 'meta.pth')
    torch.save({'a': torch.randn(3, dtype=torch.complex64)}, folder / 'complex.pth')
    torch.save(torch.ones(2), folder / 'tensor.pth')
    torch.save({'a': np.ones(3, 'f'), 'b': torch.ones(2)}, folder / 'numpy.pth')


def main():
    torch.manual_seed(0)
    here = pathlib.Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        write(pathlib.Path(folder))
        with zipfile.ZipFile(here / 'torch_files.zip', 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name in sorted(os.listdir(folder)):
                archive.write(os.path.join(folder, name), name)


if __name__ == '__main__':
    main()
