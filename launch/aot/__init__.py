"""What `launch.aot_compile` is made of: chips, the program of a step, and what is in it."""
