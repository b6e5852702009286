"""The page's part on many pods: the simulated days, where the design breaks first, and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.scaling.page_format import clock, number, percent, table
from benchmarks.scaling.scenarios import DAY, IMAGE_GB, NODE_S, PENDING_S, SPIKE_S, WINDOW_S

__all__ = ["autoscaler", "beyond", "caches", "connections", "saturation", "starts"]

Row = Mapping[str, Any]


def _named(rows: Sequence[Row], name: Any) -> Row:
    [row] = [row for row in rows if row["name"] == name]
    return row


def autoscaler(results: Mapping[str, Any]) -> str:
    """The day with its spike, by autoscaler."""
    days, notes = results["days"], results["notes"]
    shipped = _named(days, "shipped")
    rows = [
        [
            f"**{row['name']}**",
            notes[row["name"]],
            percent(row["refused"]),
            percent(row["refused_in_spike"]),
            _until(row),
            " / ".join(number(row[key]) for key in ("p50_ms", "p95_ms", "p99_ms")),
            number(row["pod_hours"]),
            f"{row['most_pods']}",
            f"{row['turns']}",
        ]
        for row in days
    ]
    head = [
        "autoscaler", "", "refused, day", "refused, spike", "until < 1 % refused", "p50 / p95 / p99 ms, day", "pod hours",
        "most pods", "turns",
    ]  # fmt: skip
    fixed = math.ceil(DAY.per_s(SPIKE_S[0]) / results["pods"]["mixed, lists"]["at_target"])
    return f"""A day of {DAY.least_per_s:g} to {DAY.most_per_s:g} texts/s (least at 2:00, most at 14:00), and at 10:30, from one second to
the next, {DAY.spike.factor:g} times as much for a quarter of an hour: {number(shipped["requests"])} requests, each one simulated. A new
pod is ready {results["service"]["ready_s"]:.0f} s after the autoscaler asked for it.

![The shipped autoscaler, a day](scaling/day.png)

![All of them, around the spike](scaling/spike.png)

{table(head, rows)}

*Turns* are changes of direction over the day. Pods for the spike all day would be {fixed} × 24 = {fixed * 24} pod hours.

- **A target that processors cannot show is never reached.** A pod that computes all the time shows
  {percent(results["service"]["busy_share"])} of Triton's processors; the autoscaler tolerates a tenth, so above
  {percent(results["service"]["busy_share"] / 1.1)} it never scales up. Of the whole pod's {_pod_processors(results):g} processors a
  saturated Triton is {percent(_whole_pod(results))}: the shipped manifest looks at each container by itself for that reason.
- **Stabilization costs pods and saves turns**: compare *shipped* and *no stabilization*.
- **Caution on the way up is paid in refused requests**: compare *shipped* and *cautious*.

What could be changed about the shipped one, from {clock(WINDOW_S[0])} to {clock(WINDOW_S[1])}. These and all that follow are runs of
their own, with other random arrivals, so that their figures differ a little from the day's:

{_windows(results["improved"], "autoscaler", str)}

How fast it may scale up is not what holds it back: its metric cannot exceed all processors, so at one look it asks for
{_step(results):.2f} times the pods that count, at most. **Only pods that are already there help in the first minute**: a lower
target or a higher minimum buys it, at the price in the column of pod hours."""


def _until(row: Row) -> str:
    return "its end" if row["bad_s"] >= DAY.spike.seconds else f"{row['bad_s']:.0f} s"


def _step(results: Mapping[str, Any]) -> float:
    return float(results["service"]["busy_share"] / results["autoscaler"]["target"])


def _pod_processors(results: Mapping[str, Any]) -> float:
    requested = results["service"]["requested"]
    return float(requested["triton"] + requested["rest"])


def _whole_pod(results: Mapping[str, Any]) -> float:
    """Share of the pod's processors that are used while Triton is saturated."""
    service, most = results["service"], results["pods"]["mixed, lists"]
    requests = most["most"] / most["texts_per_request"]
    shim = requests * service["shim"]["request_s"] + most["most"] * service["shim"]["text_s"]
    return float((service["busy_share"] * service["requested"]["triton"] + shim) / _pod_processors(results))


def _windows(rows: Sequence[Row], head: str, name: Any) -> str:
    return table(
        [head, "refused in the spike", "until < 1 % refused", "p99 in the spike, ms", "pod hours", "most pods"],
        [
            [
                name(row["name"]),
                percent(row["refused_in_spike"]),
                _until(row),
                number(row["p99_in_spike_ms"]),
                number(row["pod_hours"]),
                f"{row['most_pods']}",
            ]
            for row in rows
        ],
    )


def starts(results: Mapping[str, Any]) -> str:
    """Cold start, and the image."""
    service = results["service"]
    starts = service["starts_s"]
    start_s = sorted(starts)[len(starts) // 2]
    rest_s = service["ready_s"] - PENDING_S - start_s
    pull_s = {rate: 8 * IMAGE_GB / rate for rate in (1, 5)}
    return f"""### 1. Cold start, and the image

    ready after  =  node, if there is none ({NODE_S:.0f} s)  +  image, if it is not there  +  {PENDING_S:.0f} s  +  start  +  probes

Measured here: the start takes {start_s:.1f} s (model, warm-up, shim; {", ".join(f"{each:.1f}" for each in sorted(starts))} s on a machine
that is shared). Probes add {rest_s:.1f} s on average. NVIDIA's image is what
counts, the service's own layers are small beside it ([operations](operations.md)): with some {IMAGE_GB:.0f} GB compressed it takes {pull_s[1]:.0f} s at 1 Gbit/s and {pull_s[5]:.0f} s at 5 Gbit/s, unpacking not
counted. A pod on a new node is ready after {service["ready_s"] + NODE_S + pull_s[5]:.0f} to
{service["ready_s"] + NODE_S + pull_s[1]:.0f} s, on one that has the image after {service["ready_s"]:.0f} s.

{_windows(results["starts"], "ready after", lambda name: f"{name:.0f} s")}

*To do*: keep the image on every node (a DaemonSet that only pulls it, or a node image that holds it), keep one spare node
(a Deployment of low priority that does nothing), and a smaller image (`compose.py` of Triton's repository: ONNX Runtime and
Python backends only)."""


def saturation(results: Mapping[str, Any]) -> str:
    """Spikes of several sizes."""
    return f"""### 2. A spike larger than the batches can take

{_windows(results["factors"], "times the load", lambda name: f"{name:g}")}

Batching is the first reserve: a pod at the target takes {_reserve(results):.1f} times its load before it refuses. Beyond that, what
is refused is refused for as long as the autoscaler needs, whatever its policies.

*To do*: more pods at all times (above), or another signal. The queue-to-compute ratio, which the overlay for GPUs uses, is not
bounded as the use of processors is."""


def _reserve(results: Mapping[str, Any]) -> float:
    each = results["pods"]["mixed, lists"]
    return float(each["most"] / each["at_target"])


def connections(results: Mapping[str, Any]) -> str:
    """Connections that stay, and uneven deals."""
    rows = [
        [
            f"{row['pods']}",
            *(f"{share:.2f}" for share in row["busiest"].values()),
            f"{row['resolve_s']:.0f} s",
        ]
        for row in results["connections"]
    ]
    head = ["pods", *(f"{each} per pod" for each in results["connections"][0]["busiest"]), "gRPC, new pods seen after"]

    def life(seconds: float | str) -> str:
        return "every request balanced" if seconds == 0 else seconds if isinstance(seconds, str) else f"{seconds:.0f} s"

    return f"""### 3. Connections that stay with their pod

A Service deals connections, not requests. New pods get what new connections bring, and the mean over all pods, which is what
the autoscaler looks at, falls while the old ones refuse. The same spike, by how long a client keeps its connection:

{_windows(results["lives"], "a connection ends after", life)}

And a deal is uneven. What the busiest pod gets, in shares of an even balance, with so many equally busy connections for each
pod; and how long a gRPC client with `round_robin` needs until it looks for new pods, at a maximum connection age of 300 s
(and not before 30 s: gRPC asks the DNS no sooner):

{table(head, rows)}

*To do*: direct gRPC clients by the headless Service, with `round_robin`; Triton ends their connections by age. For REST a proxy
that balances requests (an Ingress, Envoy, a mesh), or clients that close a connection now and then."""


def caches(results: Mapping[str, Any]) -> str:
    """A cache in each pod, or one by key."""
    cache = results["caches"]
    rows = [
        [pods, percent(cache["alone"]), percent(by_key), f"{(1 - cache['alone']) / (1 - by_key):.2f}"]
        for pods, by_key in cache["by_key"].items()
    ]
    return f"""### 4. Caches that each pod has alone

With a cache of vectors in each pod: {cache["entries"]:,} entries, {cache["texts"]:,} different texts that are asked for by Zipf's law
(exponent {cache["exponent"]:g}); LRU, by Che's approximation. Balanced at random, every pod sees the same texts and keeps the same
ones: more pods bring no more hits. By key (consistent hashing in front), their caches add up:

{table(["pods", "hits, each alone", "hits, by key", "work saved, times"], rows)}

A new pod starts with an empty cache, and at its share of the load needs {number(cache["cold_s"])} s until it hits nine tenths of what
it will: for that long it computes more than the others.

*To do*: nothing while few texts come again. Otherwise hashing by text where requests are single ones; lists cannot be hashed."""


def beyond(results: Mapping[str, Any]) -> str:
    """What ten and a thousand times the load take."""
    each, least = results["pods"]["mixed, lists"], results["autoscaler"]["min"]
    now, per_machine = DAY.most_per_s, 3
    rows, pods = [], {}
    for factor in (1, 10, 1000):
        load = now * factor
        pods[factor] = max(least, math.ceil(load / each["at_target"]))
        gigabits = load * 384 * 4 * 8 / 1e9
        rows.append(
            [
                f"{factor} ×",
                f"{load:,.0f}",
                number(load / each["texts_per_request"]),
                f"{pods[factor]:,}",
                f"{math.ceil(pods[factor] / per_machine):,}",
                f"{gigabits:.2g} Gbit/s, as JSON {gigabits * 8 / 1.5:.2g}",
            ]
        )
    head = ["", "texts/s", "requests/s", "pods", "machines of 16 processors", "vectors"]
    spike = DAY.spike.factor
    return f"""{table(head, rows)}

**Ten times.** `maxReplicas: {results["autoscaler"]["max"]}` is the first wall; set it, and the namespace's quota, by the table.
Nothing else is shared between pods: no store, no leader, no lock. What changes is the spike: {spike:g} times as much are
{math.ceil(pods[10] * spike):,} pods on {math.ceil(pods[10] * spike / per_machine):,} machines, of which most are not there yet, so the
table of cold starts counts from {results["service"]["ready_s"] + NODE_S:.0f} s on. First come spare machines with the image in place,
then a proxy that balances requests.

**A thousand times.** {pods[1000]:,} pods fit into one cluster on paper (Kubernetes is made for 5,000 nodes and 150,000 pods), but a
spike would take {math.ceil(pods[1000] * spike / per_machine):,} nodes, the autoscaler's tolerance alone is {pods[1000] // 10:,} pods, each node
has to know {pods[1000]:,} endpoints, and one bad rollout is everybody's. Cells instead: clusters of some hundred pods, each
with its own Service and autoscaler, and a front that deals users or parts of an index to cells. Indexing goes apart from
search (`k8s/bulk`): it can wait, take spot machines, and fill batches. A cache by key in front of the cells saves what the
table above says. And GPUs, once they are measured: the table of costs says from which rate on."""
