"""Back to the plain memory layout after inference, as the bits of a training run depend on it.

On a CPU, inference turns convolution weights in place into oneDNN's blocked layout, unseen by the user. The
next training step turns them back, but asynchronously: now and then the optimizer comes first. It then works
on a copy, and MXNet 1.9.1's NAG gives another momentum: where it works in place, the weight is overwritten
already when its decay goes into the momentum, and on a copy it is not. A ResNet-20 that validates between
steps ended with ten different results in twelve runs; with `restore_plain_layout` after each validation, with one.
"""

import mxnet as mx
from mxnet import gluon

__all__ = ['restore_plain_layout']


def restore_plain_layout(net: gluon.Block) -> None:
    """Give the parameters of `net` the plain layout. Their values do not change by a bit.

    Call it after every inference with a network before it is trained on, or a run is not repeatable, and one
    that is resumed does not end as one that never stopped. Waits for all computation to finish. Takes some
    10 ms for a ResNet-20.
    """
    # A change of layout is queued while the forward pass runs, and must come before ours.
    mx.nd.waitall()
    for parameter in net.collect_params().values():
        if parameter._data is not None:
            for array in parameter.list_data():
                if array.context.device_type != 'cpu':
                    continue
                # Other operators, copying included, keep the layout of the array that they write to; and from the
                # layout that weights of convolutions with groups get, reshaping itself does not know the way.
                plain = mx.nd.array(array.asnumpy(), ctx=array.context, dtype=array.dtype)
                mx.nd.reshape(plain, shape=array.shape, out=array)
    mx.nd.waitall()
