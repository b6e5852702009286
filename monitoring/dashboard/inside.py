"""Rows about what is inside: where the time goes, how full the batches are, what the machines do."""

from __future__ import annotations

from monitoring.dashboard.panels import EMBEDS, ENSEMBLES, NAMESPACE, RATE, STEPS, Panel, Query, bars, graph, rate

__all__ = ["batches", "gpus", "machines", "time"]


def time() -> list[Panel]:
    """Where does the time go?"""
    # Everything is divided by the same count, so that the parts add up to the mean time of one request to Triton.
    requests = f"sum({rate('nv_inference_request_success', ENSEMBLES)})"

    def per_request(microseconds: str) -> str:
        return f"{microseconds} / 1e6 / on () group_left () {requests}"

    queue = f"sum by (model) ({rate('nv_inference_queue_duration_us', STEPS)})"
    computes = " + ".join(
        rate(f"nv_inference_compute_{part}_duration_us", STEPS) for part in ("input", "infer", "output")
    )
    compute = f"sum by (model) ({computes})"
    total = "nv_inference_request_duration_us"
    between = f"clamp_min(sum({rate(total, ENSEMBLES)}) - sum({rate(total, STEPS)}), 0)"
    rest = (
        f"clamp_min(sum({rate('embedding_request_duration_seconds_sum', EMBEDS)})"
        f" - sum({rate('embedding_triton_duration_seconds_sum', NAMESPACE)}), 0)"
        f" / sum({rate('embedding_triton_duration_seconds_count', NAMESPACE)})"
    )
    parts: list[Query] = [
        (per_request(queue), "queue of {{model}}"),
        (per_request(compute), "{{model}}"),
        (per_request(f"({between})"), "Triton, between the steps"),
        (rest, "REST shim"),
    ]
    return [
        graph(
            "Where the time of a request goes",
            "s",
            "Mean of each part: of a request to Triton (a piece of up to 32 texts), and for the shim of a REST "
            "request, with its wait for room at Triton. Each request of a batch counts the batch's whole time.",
            *parts,
            width=16,
            stacked=True,
        ),
        bars("The same, now", "s", "The longest bar is where to look first.", *parts),
    ]


def batches() -> list[Panel]:
    """How full are the batches?"""
    executions = f"sum by (model) ({rate('nv_inference_exec_count', STEPS)})"
    return [
        graph(
            "Texts per execution",
            "short",
            "The mean batch: at most 64. Under load it must be well above one, or batching does not work.",
            (f"avg by (model) (triton:batch_size:mean5m{{{NAMESPACE}}})", "{{model}}"),
        ),
        graph(
            "Requests per execution",
            "short",
            "How many requests Triton puts together. One: none waits, or they do not fit together.",
            (f"sum by (model) ({rate('nv_inference_request_success', STEPS)}) / ({executions} > 0)", "{{model}}"),
        ),
        graph("Executions", "ops", "Of each step, a second.", (executions, "{{model}}")),
    ]


def machines() -> list[Panel]:
    """What do the machines do?"""
    container = f'{NAMESPACE},container=~"triton|rest"'
    return [
        graph(
            "Processor of the machines",
            "percentunit",
            "By Triton's own look at its machine, and by the node exporter where there is one.",
            (f"nv_cpu_utilization{{{NAMESPACE}}}", "{{instance}}"),
            (
                '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))',
                "{{instance}}, node exporter",
            ),
        ),
        graph(
            "Memory of the machines",
            "bytes",
            "As above.",
            (f"nv_cpu_memory_used_bytes{{{NAMESPACE}}}", "{{instance}}, used"),
            (f"nv_cpu_memory_total_bytes{{{NAMESPACE}}}", "{{instance}}, there is"),
            ("node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes", "{{instance}}, node exporter"),
        ),
        graph(
            "Processors of the shim",
            "none",
            "In cores. It is one process with one event loop: at one core it is the limit, and another replica is due.",
            (f'rate(process_cpu_seconds_total{{job="embedding-rest",{NAMESPACE}}}{RATE})', "{{instance}}"),
        ),
        graph(
            "Memory of the shim",
            "bytes",
            "Its cache included.",
            (f'process_resident_memory_bytes{{job="embedding-rest",{NAMESPACE}}}', "{{instance}}"),
        ),
        graph(
            "Processors of the containers",
            "none",
            "In cores, from cAdvisor or the kubelet.",
            (
                f"sum by (pod, container) (rate(container_cpu_usage_seconds_total{{{container}}}{RATE}))",
                "{{pod}} {{container}}",
            ),
        ),
        graph(
            "Memory of the containers",
            "bytes",
            "What the kernel counts against the limit, from cAdvisor or the kubelet.",
            (f"sum by (pod, container) (container_memory_working_set_bytes{{{container}}})", "{{pod}} {{container}}"),
        ),
    ]


def gpus() -> list[Panel]:
    """And their GPUs?"""
    return [
        graph(
            "GPU use",
            "percentunit",
            "Share of the time in which something ran on it, from Triton.",
            (f"nv_gpu_utilization{{{NAMESPACE}}}", "{{instance}} {{gpu_uuid}}"),
            width=6,
        ),
        graph(
            "GPU memory",
            "percentunit",
            "From Triton.",
            (f"gpu:triton_memory_used:ratio{{{NAMESPACE}}}", "{{instance}} {{gpu_uuid}}"),
            width=6,
        ),
        graph(
            "GPU power",
            "watt",
            "From Triton.",
            (f"nv_gpu_power_usage{{{NAMESPACE}}}", "{{instance}} {{gpu_uuid}}"),
            width=6,
        ),
        graph(
            "GPU temperature",
            "celsius",
            "From NVIDIA's DCGM exporter.",
            ("DCGM_FI_DEV_GPU_TEMP", "{{Hostname}} {{gpu}}"),
            width=6,
        ),
    ]
