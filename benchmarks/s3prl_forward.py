"""s3prl's forward pass over some files, timed whenever a line comes in; called by bench_extract.py.

Batches of 4 in the order given, padded, float32, every layer kept: what ``run_downstream`` does
before its head. Reads {"paths": [...], "device": ..., "batch": 4} as its first line, then answers
every line with the seconds of one pass, decoding included.
"""

import json
import sys
import time

import s3prl_hubert
import soundfile
import torch


def one_pass(upstream: torch.nn.Module, paths: list[str], batch: int, device: str) -> float:
    started = time.perf_counter()
    for first in range(0, len(paths), batch):
        files = paths[first : first + batch]
        waves = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in files]
        with torch.no_grad():
            out = upstream([wave.to(device) for wave in waves])
        assert len(out["hidden_states"]) == 13
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    task = json.loads(sys.stdin.readline())
    upstream = s3prl_hubert.upstream().to(task["device"])
    one_pass(upstream, task["paths"][: task["batch"]], task["batch"], task["device"])  # warm up
    for _ in sys.stdin:
        print(one_pass(upstream, task["paths"], task["batch"], task["device"]), flush=True)


if __name__ == "__main__":
    main()
