"""Instructions in English, Hindi and Telugu: what is said (``clauses``) and how (``grammar`` and one table each)."""
