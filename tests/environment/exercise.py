"""Try what every supported Python must be able to do with MXNet; test_every_python.py runs this in each of them.

Prints one line of JSON. Run it in an empty folder.
"""

import json
import sys
import warnings

import environment  # noqa: F401  isort: skip  (prepares the process for what follows)

import gluoncv
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd, recordio


def small_network():
    net = gluon.nn.HybridSequential(prefix='small_')
    with net.name_scope():
        net.add(
            gluon.nn.Conv2D(4, 3, padding=1, in_channels=3),
            gluon.nn.BatchNorm(in_channels=4),
            gluon.nn.Activation('relu'),
            gluon.nn.GlobalAvgPool2D(),
            gluon.nn.Dense(np.int64(3), in_units=4, weight_initializer=mx.init.Orthogonal()),
        )
    return net


def train(net, x, y):
    schedule = gluoncv.utils.LRScheduler('cosine', base_lr=0.1, nepochs=1, iters_per_epoch=10)
    options = {'learning_rate': 0.1, 'momentum': 0.9, 'wd': 1e-4, 'lr_scheduler': schedule}
    trainer = gluon.Trainer(net.collect_params(), 'nag', options)
    loss_of, accuracy = gluon.loss.SoftmaxCrossEntropyLoss(), mx.metric.Accuracy()
    losses = []
    for _ in range(2):
        with autograd.record():
            scores = net(x)
            loss = loss_of(scores, y)
        loss.backward()
        trainer.step(len(x))
        accuracy.update([y], [scores])
        losses.append(float(loss.mean().asscalar()))
    trainer.save_states('states')
    trainer.load_states('states')
    assert 0 <= accuracy.get()[1] <= 1
    return losses


def index(x):
    """Check that indexing in MXNet's and in NumPy's way gives what NumPy gives."""
    a = x.asnumpy()
    for key in ((0, slice(1, None)), np.int64(1), -1, (Ellipsis, None), (slice(None), np.array([0, 2])), (0, 1, 2)):
        np.testing.assert_array_equal(x[key].asnumpy(), a[key] if np.ndim(a[key]) else [a[key]])
    x, a = x.copy(), a.copy()
    x[0, 1], a[0, 1] = np.float64(5), 5
    x[:, 2], a[:, 2] = np.float32(7), 7
    np.testing.assert_array_equal(x.asnumpy(), a)
    for dtype in ('float16', 'float32', 'float64', 'uint8', 'int8', 'int32', 'int64'):
        assert nd.array([1, 0, 2], dtype=dtype).asnumpy().tolist() == [1, 0, 2]
    moved = nd.moveaxis(nd.zeros((2, 3, 4)), 0, 2)
    assert moved.shape == nd.zeros((3, np.int64(4), 2)).shape
    padded = mx.np.pad(mx.np.ones((2, 2)), ((1, 1), (0, 0)))
    assert padded.shape == (4, 2)


def data():
    """Read RecordIO with its iterator, a dataset, and a loader with a worker process."""
    images = np.arange(4 * 8 * 8 * 3, dtype='uint8').reshape(4, 8, 8, 3)
    with_labels = recordio.MXIndexedRecordIO('a.idx', 'a.rec', 'w')
    for i, image in enumerate(images):
        header = recordio.IRHeader(0, float(i), i, 0)
        with_labels.write_idx(i, recordio.pack_img(header, image, img_fmt='.png'))
    several = recordio.pack(recordio.IRHeader(0, np.array([1.0, 2.0]), 9, 0), b'two labels')
    with_labels.close()
    assert recordio.unpack(several)[0].label.tolist() == [1, 2]
    dataset = gluon.data.vision.ImageRecordDataset('a.rec')
    to_tensor = gluon.data.vision.transforms.ToTensor()
    labels = []
    for batch, label in gluon.data.DataLoader(dataset.transform_first(to_tensor), 2, num_workers=1):
        assert batch.shape == (2, 3, 8, 8)
        labels += label.asnumpy().tolist()
    assert labels == [0, 1, 2, 3]
    iterator = mx.io.ImageRecordIter(
        path_imgrec='a.rec', path_imgidx='a.idx', data_shape=(3, np.int64(8), 8), batch_size=2, preprocess_threads=1
    )
    assert sum(len(batch.data[0]) for batch in iterator) == 4


def main():
    mx.random.seed(1)
    np.random.seed(1)
    x, y = nd.random.uniform(shape=(4, 3, 8, 8)), nd.array([0, 1, 2, 0])
    net = small_network()
    net.initialize(mx.init.Xavier())
    net.hybridize()
    losses = train(net, x, y)
    scores = net(x)

    net.save_parameters('small.params')
    again = small_network()
    again.load_parameters('small.params')
    np.testing.assert_array_equal(again(x).asnumpy(), scores.asnumpy())
    net.export('small')
    warnings.filterwarnings('ignore', 'Cannot decide type')  # of the input, which no exported file states
    imported = gluon.SymbolBlock.imports('small-symbol.json', ['data'], 'small-0000.params')
    np.testing.assert_allclose(imported(x).asnumpy(), scores.asnumpy(), rtol=1e-5)

    index(nd.arange(24).reshape((2, 3, 4)))
    data()
    for module in ('mxnet.contrib.amp', 'mxnet.contrib.quantization', 'mxnet.contrib.onnx', 'mxnet.onnx'):
        __import__(module)
    resnet = gluoncv.model_zoo.get_model('cifar_resnet20_v2', classes=10)
    resnet.initialize()
    assert resnet(nd.zeros((1, 3, 32, 32))).shape == (1, 10)
    if tuple(map(int, np.__version__.split('.')[:2])) >= (1, 24):
        assert not hasattr(np, 'float'), 'a name was given to somebody else than MXNet'
    print(json.dumps({'python': sys.version_info[:2], 'numpy': np.__version__, 'losses': losses}))


if __name__ == '__main__':
    main()
