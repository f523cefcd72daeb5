"""Visual question answering: questions and answers, their files, vocabularies, tensors and measures; no models."""
