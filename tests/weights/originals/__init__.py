"""Other people's models, run by their own code (torch, transformers): a file for each family."""
