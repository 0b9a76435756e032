"""How what Quorate costs grows with what it holds and does: ``python -m bench.growth``."""
