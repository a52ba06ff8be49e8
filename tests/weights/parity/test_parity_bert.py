import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from originals import bert as originals  # noqa: E402
from test_bert_stored import FAMILIES, check  # noqa: E402

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_live(name):
    case = getattr(originals, name)(hidden_size=32, num_attention_heads=4, num_hidden_layers=3)
    check(case, FAMILIES[name], 1e-5)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_base_size(name):
    """Twelve layers of width 768, a tenth of the vocabulary, weights as at the start."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    sizes |= {"intermediate_size": 3072, "vocab_size": 3000}
    case = getattr(originals, name)(std=0.02, **sizes)
    check(case, FAMILIES[name], 1e-4)
