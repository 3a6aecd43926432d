"""Load the CUDA 11 libraries of the nvidia-*-cu11 packages, without LD_LIBRARY_PATH.

MXNet's CUDA wheel names its libraries but not where they are. The dynamic loader accepts a library that the process has
already loaded under that name, so they are loaded here, each after its own dependencies.
"""

import sys
from pathlib import Path
from typing import Dict, List, Optional

__all__ = ['LIBRARIES', 'cuda_wheel', 'find', 'preload']

# library: the package that contains it. The dependencies of libmxnet.so in mxnet-cu112, and theirs in turn.
LIBRARIES = {
    'libcudart.so.11.0': 'nvidia-cuda-runtime-cu11',
    'libnvrtc.so.11.2': 'nvidia-cuda-nvrtc-cu11',
    'libnvToolsExt.so.1': 'nvidia-nvtx-cu11',
    'libcublasLt.so.11': 'nvidia-cublas-cu11',
    'libcublas.so.11': 'nvidia-cublas-cu11',
    'libcufft.so.10': 'nvidia-cufft-cu11',
    'libcurand.so.10': 'nvidia-curand-cu11',
    'libcusparse.so.11': 'nvidia-cusparse-cu11',
    'libcusolver.so.11': 'nvidia-cusolver-cu11',
    'libcudnn.so.8': 'nvidia-cudnn-cu11',
    'libnccl.so.2': 'nvidia-nccl-cu11',
}


def _site_folders() -> List[Path]:
    return [Path(entry) for entry in sys.path if entry.endswith('-packages')]


def cuda_wheel() -> Optional[str]:
    """Return the installed CUDA build of MXNet, such as 'mxnet-cu112 1.9.1', or None."""
    for folder in _site_folders():
        for info in folder.glob('mxnet_cu*.dist-info'):
            name, version = info.name[: -len('.dist-info')].split('-', 1)
            return '{} {}'.format(name.replace('_', '-'), version)
    return None


def find() -> Dict[str, Path]:
    """Return the paths of the installed packages' copies of `LIBRARIES`, in loading order."""
    found = {}
    for library in LIBRARIES:
        for folder in _site_folders():
            for path in folder.glob('nvidia/*/lib/' + library):
                found.setdefault(library, path)
    return found


def preload() -> None:
    """Load the CUDA libraries if a CUDA build of MXNet is installed. Missing ones are left to the system."""
    if sys.platform == 'linux' and cuda_wheel() is not None:
        import ctypes

        for path in find().values():
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
