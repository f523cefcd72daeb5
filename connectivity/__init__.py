"""Navigation graphs: reading and checking them, compiling them into tables."""
