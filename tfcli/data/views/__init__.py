"""Views: classes that turn the rows of a table into the samples of an objective."""
