"""Images from files, folders, archives, RecordIO and COCO data sets to batches of network input."""
