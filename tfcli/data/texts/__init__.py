"""Parts that views of text share, and previews of texts."""
