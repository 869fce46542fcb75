"""Brain tumour segmentation when MRI sequences are missing: engine, scene and panel of the MSTKDSegmenter extension."""
