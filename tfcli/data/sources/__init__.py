"""Sources: classes that find and load data sets in their published layouts, and a user's own data."""
