"""The shim's settings, each declared once: flag --some-name over environment EMBEDDING_REST_SOME_NAME over default."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import ByteSize, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from client import InvalidInput, Limits
from client._transport import check_url
from client.rest.admission import Patience
from client.rest.connection import Bounds
from client.rest.keys import parse_keys, read_keys

__all__ = ["Settings"]

_LEAST_CACHE_BYTES = 1024 * 1024  # some hundred texts


class Settings(BaseSettings):
    """Serve embeddings over REST, in front of Triton."""

    # Not the prefix EMBEDDING_: Kubernetes gives pods beside a Service `embedding` EMBEDDING_PORT=tcp://10.0.0.1:8000.
    model_config = SettingsConfigDict(
        env_prefix="EMBEDDING_REST_",
        frozen=True,
        cli_prog_name="python -m client.rest",
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    triton_url: str = Field("grpc://127.0.0.1:8001", description="Triton's grpc://HOST:PORT or http://HOST:PORT")
    triton_timeout_s: float = Field(30.0, gt=0, description="seconds that one request to Triton may take")
    ensemble: Literal["embedding", "embedding_fused"] = Field(
        "embedding_fused", description="model of the repository to ask: pooling as a step, or inside the graph"
    )
    ready_timeout_s: float = Field(5.0, gt=0, description="seconds that GET /health/ready gives its embedding")
    # A hang and the restart after it take 8 to 15 s on two busy processors, a restart 3 to 8 s.
    patience_s: float = Field(
        15.0,
        ge=0,
        description="seconds that a request whose Triton is away waits for it, to be sent once more (gRPC only)",
    )
    dead_after_s: float = Field(
        60.0, gt=0, description="seconds without a sign of life of Triton after which GET /health/live fails"
    )
    drain_s: float = Field(
        0.5,
        ge=0,
        description="seconds on SIGTERM in which requests are still taken; each answer closes its connection",
    )
    stop_timeout_s: int = Field(10, ge=0, description="seconds that requests in flight get to finish after that")
    listen_fd: int | None = Field(None, description="inherited socket to listen on, instead of host and port")
    control_fd: int | None = Field(None, description="inherited socket on which a supervisor gives orders")
    api_keys: SecretStr | None = Field(
        None,
        description="keys that are let in, separated by commas; without these and a file everybody is. Use the "
        "environment: other users of the machine can read flags",
    )
    api_keys_file: Path | None = Field(
        None, description="file of more keys, one on a line, # starts a comment; read anew when it changes"
    )
    max_texts: int = Field(10_000, ge=1, description="texts in one request")
    # Twice what the largest document in the tests has. Of a long text only the beginning is computed (the tokenizer
    # cuts it), so this bounds no work: what is larger is more likely a file sent by mistake than a text.
    max_text_characters: int = Field(2 * 1024 * 1024, ge=1, description="characters of one text")
    max_body_bytes: int = Field(32 * 1024 * 1024, ge=1, description="bytes of one request's body")
    auto_truncate: bool = Field(
        True, description="cut texts that are too long where a request to /embed does not say, and on /v1/embeddings"
    )
    texts_per_piece: int = Field(
        Limits.piece, ge=1, description="most texts in one request to Triton, at most its max_batch_size"
    )
    least_texts_in_flight: int = Field(Limits.least, ge=1, description="texts in Triton at a time, however slow it is")
    most_texts_in_flight: int = Field(Limits.most, ge=1, description="texts in Triton at a time, however fast it is")
    work_in_flight_s: float = Field(
        Limits.at_server_s, gt=0, description="seconds that Triton needs for what it has at a time, between those two"
    )
    max_wait_s: float = Field(
        Patience.max_wait_s, gt=0, description="seconds that a request may wait for its turn at overload, else 429"
    )
    burst_requests: int = Field(
        Patience.burst_requests,
        ge=0,
        description="requests that may wait while there is no overload, however long it takes",
    )
    calm_after_s: float = Field(
        Patience.calm_after_s, ge=0, description="seconds without a refusal after which an overload is over"
    )
    max_slowdown: float = Field(
        Patience.max_slowdown,
        ge=1,
        description="how many times longer than alone a request of several pieces may take, else 429",
    )
    memory_bytes: int = Field(
        128 * 1024 * 1024, ge=1, description="bytes of bodies and vectors that all requests may hold together"
    )
    max_connections: int = Field(1000, ge=1, description="connections at a time; the longest idle one goes for another")
    receive_timeout_s: float = Field(
        10.0, gt=0, description="seconds for a request's head, and for its body beyond what 10 kB/s need"
    )
    send_timeout_s: float = Field(20.0, gt=0, description="seconds for a client to take what is ready of its answer")
    keep_alive_s: float = Field(75.0, gt=0, description="seconds that a connection stays open without a request")
    cache_bytes: ByteSize = Field(
        ByteSize(0),
        description="memory for the vectors of texts that came before, such as 256MiB, over gRPC only; 0 keeps none",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level to log: info has a line per request, debug health checks and scrapes too"
    )
    # json, because the lines are read by machines wherever the service runs for others.
    log_format: Literal["json", "text"] = Field("json", description="json: Elastic Common Schema; text: for people")

    @property
    def limits(self) -> Limits:
        """The bounds on texts in flight."""
        return Limits(
            piece=self.texts_per_piece,
            least_piece=min(Limits.least_piece, self.texts_per_piece),
            least=self.least_texts_in_flight,
            most=self.most_texts_in_flight,
            at_server_s=self.work_in_flight_s,
        )

    @property
    def patience(self) -> Patience:
        """How long waits may be."""
        return Patience(self.max_wait_s, self.burst_requests, self.calm_after_s, self.max_slowdown)

    @property
    def bounds(self) -> Bounds:
        """What connections may take."""
        return Bounds(self.max_connections, self.receive_timeout_s, self.send_timeout_s, self.keep_alive_s)

    @field_validator("triton_url")
    @classmethod
    def _check_triton_url(cls, value: str) -> str:
        try:
            check_url(value)
        except InvalidInput as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("api_keys")
    @classmethod
    def _check_api_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_keys(value.get_secret_value())
        return value

    @field_validator("api_keys_file")
    @classmethod
    def _check_api_keys_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_keys(value)
        return value

    @model_validator(mode="after")
    def _check_cache(self) -> Self:
        if self.cache_bytes and self.cache_bytes < _LEAST_CACHE_BYTES:
            raise ValueError(f"cache-bytes: wanted 0 or at least {_LEAST_CACHE_BYTES} (1MiB), got {self.cache_bytes}")
        if self.cache_bytes and not self.triton_url.startswith("grpc://"):
            raise ValueError(
                "cache-bytes: wanted a grpc:// address of Triton beside it, because only such a connection tells that "
                f"another model may be served, got {self.triton_url}"
            )
        return self

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if not Limits.least_piece <= self.least_texts_in_flight <= self.most_texts_in_flight:
            raise ValueError(
                f"wanted {Limits.least_piece} <= least-texts-in-flight <= most-texts-in-flight, got "
                f"{self.least_texts_in_flight} and {self.most_texts_in_flight}"
            )
        return self
