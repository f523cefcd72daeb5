"""Learning from images with texts, and fine-tuning on them: files, tables, batches and pictures; no programs."""
