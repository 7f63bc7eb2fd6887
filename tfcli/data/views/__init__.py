"""Views: an objective's samples of the rows of a set."""
