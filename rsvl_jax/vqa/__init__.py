"""Questions about an image, answered by small programs over what can be seen in it.

grammar      questions of RSVQA's templates -> programs
interpreter  runs a program; it can call the primitives and nothing else
primitives   find, count, area, ... over masks of things by name
answers      numbers and truths as RSVQA writes them
"""
