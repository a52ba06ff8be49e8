"""Zero-shot classification and retrieval of folders of labelled images by text."""
