"""Running methods over a data set, and the tables that come of it."""
