import hashlib

import numpy as np

from models.interruption.data import g722


def test_what_comes_out_is_that_of_other_decoders() -> None:
    """FFmpeg 8 gives these samples for the same bytes, which reach every table and limit."""
    content = np.random.default_rng(0).integers(0, 256, 8000, dtype=np.uint8).tobytes()
    found = g722.decoded(content)
    assert found[1000:1004].tolist() == [-3000, -6497, 13_699, 22_209]
    assert found.min() == -32_768
    assert hashlib.sha256(found.astype("<i2").tobytes()).hexdigest() == (
        "0aed8ee15c045cd4939e649e8c95948c45f070b045e8c7cf43130169b32b652d"
    )


def test_a_beginning_decodes_to_the_beginning() -> None:
    content = np.random.default_rng(1).integers(0, 256, 100, dtype=np.uint8).tobytes()
    assert g722.decoded(content[:40]).tolist() == g722.decoded(content)[:80].tolist()
    assert g722.decoded(b"").tolist() == []
