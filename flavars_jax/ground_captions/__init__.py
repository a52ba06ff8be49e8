"""Better captions with boxes, from a vision model behind an HTTP address (SkyScript-Grounded).

FLAVARS' authors had GPT-4V rewrite SkyScript's captions and draw boxes around what they name, tied
to OpenStreetMap's tags (arXiv:2501.08490, figure 2); neither their prompt nor their answers are
public. Here: image + caption + tags -> any endpoint that speaks OpenAI's chat completions.
"""
