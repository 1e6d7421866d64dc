"""Facts with their sources: models (``entries/``, read by `models`) and GPUs (`gpus`)."""
