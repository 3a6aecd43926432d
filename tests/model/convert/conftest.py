"""The files that other projects wrote."""

import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('torch')
    with zipfile.ZipFile(Path(__file__).with_name('torch_files.zip')) as archive:
        archive.extractall(folder)
    return folder
