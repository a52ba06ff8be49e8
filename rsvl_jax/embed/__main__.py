"""Embeds images or places into a table.

python -m rsvl_jax.embed --weights=DIR|WORKDIR --input=PHOTOS --output=embeddings.parquet

The input is a folder of images; a CSV with a column path, or lon and lat, or both; tar shards
(WebDataset); or GeoTIFFs, which are cut to windows. The output is GeoParquet or Parquet, or NPZ,
by its suffix. The same command again goes on where it was stopped.
"""

import sys
from collections.abc import Sequence

from rsvl_jax import runtime
from rsvl_jax.embed import inputs, outputs
from rsvl_jax.embed.arguments import parser
from rsvl_jax.embed.items import PLACES, Input


def run(argv: Sequence[str]) -> None:
    """Carries out a command line (without the program's name)."""
    given = parser(__doc__ or "").parse_args(argv)
    outputs.check(given.output)
    runtime.start()
    from rsvl_jax.embed.run import run as embed
    from rsvl_jax.inference import load

    embedder = load(given.weights, batch_size=given.batch_size)

    def scenes(paths: Sequence[str]) -> Input:
        from rsvl_jax.embed.scenes import scenes as windows
        from rsvl_jax.rasters.arguments import view

        return windows(
            paths,
            view(given),
            size=embedder.image_size,
            overlap=given.overlap,
            min_valid=given.min_valid,
        )

    found = inputs.find(given.input, scenes)
    embedder.need("locations" if found.kind == PLACES else "images")
    print(embed(embedder, found, given.output, space=given.space))


def main() -> None:
    """Runs the command line of this process."""
    run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(runtime.exit_status(main))
