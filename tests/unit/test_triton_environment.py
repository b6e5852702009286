"""What Triton gets of the supervisor's environment."""

from __future__ import annotations

from pathlib import Path

from server.triton import Installation, environment


def test_the_shims_settings_are_not_for_triton() -> None:
    installation = Installation(Path("tritonserver"), Path("backends"), (), stand_in=True)
    base = {"EMBEDDING_REST_API_KEYS": "secret", "EMBEDDING_REST_PORT": "1", "HOME": "/tmp", "EMBEDDING_HOST": "::1"}
    made = environment(base, installation, 1, logs_calls=False)
    assert "secret" not in made.values()
    assert not [name for name in made if name.startswith("EMBEDDING_REST_")]
    assert (made["HOME"], made["EMBEDDING_HOST"]) == ("/tmp", "::1")
