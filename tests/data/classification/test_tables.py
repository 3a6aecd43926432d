"""Tables of paths and labels: what each form means, and what is refused."""

import numpy as np
import pytest

from data.classification.by_name import load_dataset, load_splits
from data.classification.tables import read_table
from environment import UserError
from tests.data.conftest import write_images
from tests.data.loaders import loader as make_loader

NAMES = ('000', '001', '002')


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path, 5, size=8)
    return tmp_path


def read(folder, text, name='list.csv'):
    (folder / name).write_text(text)
    return read_table(folder / name)


@pytest.mark.parametrize(
    ('text', 'class_names', 'labels'),
    [
        ('000.png,dog\n001.png,cat\n002.png,dog\n', ('cat', 'dog'), [1, 0, 1]),
        ('path,label\n000.png,dog\n001.png,cat\n002.png,dog\n', ('cat', 'dog'), [1, 0, 1]),
        ('\ufefffilename;label\r\n000.png;dog\r\n\r\n001.png;a,b\r\n002.png;dog\r\n', ('a,b', 'dog'), [1, 0, 1]),
        ('id,breed\n000,10\n001,9\n002,10\n', ('9', '10'), [1, 0, 1]),
        ('width,label,file\n8,dog,000.png\n8,cat,001.png\n8,dog,002.png\n', ('cat', 'dog'), [1, 0, 1]),
        ('file,cat,dog\n000.png,0,1\n001.png,1,0\n002.png,0,1\n', ('cat', 'dog'), [1, 0, 1]),
        ('000.png,dog,cat\n001.png,cat\n002.png,dog\n', ('cat', 'dog'), [[1, 1], [1, 0], [0, 1]]),
        ('file,tags\n000.png,dog;cat\n001.png,cat\n002.png,\n', ('cat', 'dog'), [[1, 1], [1, 0], [0, 0]]),
        ('file,cat,dog\n000.png,0,0\n001.png,1,0\n002.png,0,1\n', ('cat', 'dog'), [[0, 0], [1, 0], [0, 1]]),
    ],
)
def test_forms(folder, text, class_names, labels):
    table = read(folder, text)
    assert table.class_names == class_names
    assert table.labels.tolist() == labels
    assert [path.rpartition('/')[2] for path in table.paths] == [f'{name}.png' for name in NAMES]
    assert table.parts is None


def test_parts_of_a_column_and_of_files(folder):
    table = read(folder, 'path,label,split\n000.png,a,train\n001.png,b,Train\n002.png,a,valid\n003.png,b,test\n')
    assert table.parts == ('train', 'train', 'val', 'test')
    sizes = [len(part) for part in load_splits(folder / 'list.csv', ['train', 'val', 'test', 'all'], size=8)]
    assert sizes == [2, 1, 1, 3]
    (folder / 'pets_val.csv').write_text('003.png,b\n')
    table = read(folder, '000.png,a\n001.png,b\n', 'pets_train.csv')
    assert table.parts == ('train', 'train', 'val')
    assert 'pets_train.csv is for training, pets_val.csv is for validation' in table.sentence('')


def test_a_list_of_mxnet(folder):
    (folder / 'classes.txt').write_text('cat\ndog\nnewt\n')
    table = read(folder, ''.join(f'{i}\t{i % 2:f}\t00{i}.png\n' for i in range(4)), 'pets.lst')
    assert (table.class_names, table.labels.tolist()) == (('cat', 'dog', 'newt'), [0, 1, 0, 1])


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'names no images'),
        ('000.png,a\n,b\n', 'line 2 of .*list.csv names no image'),
        ('000.png,a\n001.png\n', 'gives 001.png no label'),
        ('path,label,split\n000.png,a,train\n001.png,b,later\n', "line 3 .* has the part 'later'; allowed: train"),
        ('path,label,split\n000.png,a\n', 'line 2 .* has 2 cells, and the first line 3'),
        ('file,cat,dog\n000.png,0,1\n001.png,1,0,1\n', 'line 3 .* has 4 cells, and the first line 3'),
    ],
)
def test_what_is_malformed_is_named(folder, text, said):
    with pytest.raises(UserError, match=said):
        read(folder, text)


def test_a_table_in_latin_1(folder):
    (folder / 'list.csv').write_bytes(b'000.png,caf\xe9\n')
    with pytest.raises(UserError, match='is not a table in UTF-8'):
        read_table(folder / 'list.csv')


def test_several_labels_reach_the_batches(folder):
    labels = ['a;b', 'a', 'b', '', 'b']
    (folder / 'list.csv').write_text('path,labels\n' + ''.join(f'00{i}.png,{each}\n' for i, each in enumerate(labels)))
    dataset = load_dataset(folder / 'list.csv', 'all', size=8)
    assert dataset.several
    assert dataset.labels.tolist() == [[1, 1], [1, 0], [0, 1], [0, 0], [0, 1]]
    assert dataset.with_classes(('b', 'c', 'a')).labels.tolist()[1] == [0, 0, 1]
    (*_, (_, data, batch, valid)) = make_loader(dataset, 3, last='pad').batches(0)
    assert (len(data), valid, batch.tolist()) == (3, 2, [[0, 0], [0, 1], [0, 0]])
    train, val = load_splits(folder / 'list.csv', ['train', 'val'], size=8)
    assert (len(train), len(val)) == (4, 1)
    np.testing.assert_array_equal(train.labels.sum(axis=0) + val.labels.sum(axis=0), [2, 3])
