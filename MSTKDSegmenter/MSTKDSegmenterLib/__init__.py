"""Brain tumour segmentation when MRI sequences are missing: engine, scene and panel of the MSTKDSegmenter extension."""

__version__ = "0.1.0"
