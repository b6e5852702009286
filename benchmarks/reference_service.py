"""The service that people replace by this one, written from its description: FastAPI, transformers, torch.

    POST /embedding {"texts": [n str], "max_length": 128}  ->  {"embeddings": n lists of hidden floats}

What it does is on purpose what such services do: one forward pass per request, within the handler, so that requests
wait for each other; padding to the longest text of the request; the mean over *all* positions, padding included; as
many threads as torch takes by itself. It shares no code with the project.

    python -m benchmarks.reference_service --model FOLDER --port 9000
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModel, AutoTokenizer


class EmbeddingRequest(BaseModel):
    """The body of a request."""

    texts: list[str]
    max_length: int = 128


class EmbeddingResponse(BaseModel):
    """The body of an answer."""

    embeddings: list[list[float]]


def create_app(folder: Path) -> FastAPI:
    """Load the model and make the application."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    app = FastAPI()

    @app.post("/embedding")
    async def embedding(request: EmbeddingRequest) -> EmbeddingResponse:
        inputs = tokenizer(
            request.texts, padding=True, truncation=True, max_length=request.max_length, return_tensors="pt"
        )
        with torch.no_grad():
            states = model(**inputs).last_hidden_state  # (n, longest, hidden)
        return EmbeddingResponse(embeddings=states.mean(dim=1).tolist())

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference_service")
    parser.add_argument("--model", type=Path, required=True, help="folder of a transformers model")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(create_app(options.model), host="127.0.0.1", port=options.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
