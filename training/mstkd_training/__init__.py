"""Training of the networks that MSTKDSegmenter ships. Imports the engine; nothing in the engine imports this."""
