"""Image captioning: annotation files, vocabulary and training tables, metrics, result files; no models here."""
