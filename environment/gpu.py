"""Query the GPUs of this machine from NVIDIA's driver, and decide whether MXNet's CUDA build can use them."""

import ctypes
import sys
from typing import List, NamedTuple, Optional, Tuple

__all__ = ['CAPABILITIES', 'Gpu', 'driver_cuda_version', 'gpus', 'unusable', 'wheel']

# mxnet-cu112 carries machine code for 5.0, 6.0, 7.0, 8.0 and 8.6, and no PTX, which a driver could translate.
# Machine code runs on every later GPU of its major version, and on no other.
CAPABILITIES = ((5, 0), (9, 0))  # from, below
CUDA_VERSION = 11000  # any driver for CUDA 11 or later runs what was built with CUDA 11.x

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


class Gpu(NamedTuple):
    """A GPU as its driver describes it."""

    name: str
    capability: Tuple[int, int]


def _driver() -> Optional[ctypes.CDLL]:
    """Return the initialised driver, or None if there is none or it finds no GPU."""
    if sys.platform != 'linux':
        return None
    try:
        driver = ctypes.CDLL('libcuda.so.1')
    except OSError:  # no driver on this machine
        return None
    return driver if driver.cuInit(0) == 0 else None


def driver_cuda_version() -> Optional[int]:
    """Return the newest CUDA version of the driver, such as 12040 for 12.4, or None without a working driver."""
    driver, version = _driver(), ctypes.c_int(0)
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return version.value


def gpus() -> List[Gpu]:
    """Return the GPUs of this machine; none without a working driver."""
    driver, count, number = _driver(), ctypes.c_int(0), ctypes.c_int(0)
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = []
    for index in range(count.value):
        name = ctypes.create_string_buffer(100)
        driver.cuDeviceGetName(name, len(name), index)
        capability = []
        for attribute in (_MAJOR, _MINOR):
            driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, index)
            capability.append(number.value)
        found.append(Gpu(name.value.decode(errors='replace'), tuple(capability)))
    return found


def unusable(gpu: Gpu) -> Optional[str]:
    """Return why MXNet's CUDA build cannot run on a GPU, or None."""
    if CAPABILITIES[0] <= gpu.capability < CAPABILITIES[1]:
        return None
    have, first, below = ('.'.join(map(str, pair)) for pair in (gpu.capability, *CAPABILITIES))
    return f'{gpu.name} has compute capability {have}; mxnet-cu112 runs on {first} to below {below}'


def wheel() -> Tuple[str, str]:
    """Return which build of MXNet suits this machine, 'cpu' or 'gpu', and a short reason."""
    found, version = gpus(), driver_cuda_version()
    if not found or version is None:
        return 'cpu', 'no NVIDIA GPU found'
    if version < CUDA_VERSION:
        return (
            'cpu',
            f'the NVIDIA driver supports CUDA {version // 1000} at most; update it to 450 or later',
        )
    reasons = [unusable(gpu) for gpu in found]
    if all(reasons):
        return 'cpu', reasons[0]
    return 'gpu', found[reasons.index(None)].name


if __name__ == '__main__':
    print(*wheel(), sep='\n')
