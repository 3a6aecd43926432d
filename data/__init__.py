"""Images from files, folders, archives, RecordIO and COCO data sets to batches of network input."""

import environment

if not hasattr(environment, 'need'):
    raise ImportError(f'{environment.__file__} hides the package environment of attention-networks; rename that file')
