"""Files of any size in, vectors out, in order: what `python -m client embed` runs.

    readers   lines, JSON lines, CSV, Parquet  ->  rows, one at a time
    run       rows  ->  batches in flight      ->  blocks, in order
    adaptive  how many batches are in flight: as many as the server takes
    writers   blocks  ->  bytes of .npy, .jsonl or .parquet
    part      bytes  ->  FILE.part and its journal  ->  FILE, when all rows are there; what a killed run goes on from

A row is in memory from its reading to its writing only.
"""
