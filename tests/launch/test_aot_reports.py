"""The checked-in reports: true to the recipes of today, and the page about them true to them."""

import json
import shlex

import jax
import pytest
from fake_programs import ROOT

from flavars_jax.objective import FlavarsObjective
from graft_jax.objective import GraftObjective
from launch.aot.program import nothing
from launch.aot.report import summary
from launch.aot.summary import REPORTS
from rsvl_jax import command
from rsvl_jax.errors import UserError

PATHS = sorted(REPORTS.glob("*.json"))
PAGE = (ROOT / "docs" / "aot.md").read_text()


def read(path):
    return json.loads(path.read_text())


def test_the_page_has_the_table_and_the_commands():
    assert summary(map(read, PATHS)) in PAGE
    for path in PATHS:
        assert read(path)["command"] in PAGE, path.name


def test_the_sizes_of_the_papers_fit():
    reports = {path.stem: read(path) for path in PATHS}
    pairs, tiles = reports["flavars_b_v5e"], reports["graft_b_v5e"]
    assert pairs["topology"] == tiles["topology"] == "v5e:16x16"
    assert pairs["fits"] and pairs["batch"] == {"global": 32_768, "per_chip": 128.0}
    assert tiles["fits"] and tiles["batch"] == {"global": 65_536, "per_chip": 256.0}
    for stem in reports:
        if stem.endswith("_whole"):
            sharded = reports[stem.removesuffix("whole") + "fsdp"]
            assert sharded["fits"] and not reports[stem]["fits"]
            assert sharded["batch"] == reports[stem]["batch"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_report_is_of_todays_recipe(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    report = read(path)
    words = shlex.split(report["command"])
    assert words[:3] == ["python", "-m", "launch.aot_compile"]
    assert f"--output=launch/reports/{path.name}" in words and "--remat=all" in words
    given = [word for word in words if word.startswith("--config")]
    config = command.parse(["x", *given, "--workdir=none"]).config
    if report["method"] == "graft":
        objective = GraftObjective(config)
    else:
        s = config.objective.codebook_size, config.model.image.patch**2 * 3
        objective = FlavarsObjective(config, codebook=nothing(s))
    params = jax.eval_shape(objective.init, jax.random.key(0))["params"]
    assert report["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert report["flops"]["per_sample"] == objective.flops_per_sample()
    chosen = {row["policy"]: row for row in report["remat_search"]}[report["remat"]]
    assert chosen["fits"] == report["fits"] and path.stat().st_size < 8000
    assert report["remat_best"] == (report["remat"] if report["fits"] else None)


def test_a_file_that_is_no_report(tmp_path):
    from launch.aot.summary import main

    with pytest.raises(UserError, match="cannot read the report"):
        main([str(tmp_path / "none.json")])
    (tmp_path / "text.json").write_text("no")
    with pytest.raises(UserError, match="cannot read the report"):
        main([str(tmp_path / "text.json")])
