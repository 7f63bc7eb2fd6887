"""Images from files to batches: decoding, caching, transforms and previews."""
