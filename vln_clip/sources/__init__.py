"""Public files: the table of addresses, other addresses in their place, downloads."""
