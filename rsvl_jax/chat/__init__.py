"""Chat completions of any OpenAI-compatible endpoint: where it is, the key to it, one request."""
