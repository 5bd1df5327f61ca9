"""A bulk run on a cluster of its own, disturbed from within. As a program: `bulk_cluster.py FAULT MANIFEST URL BUNDLE`.

FAULT is `node` (the raylet of one of two nodes is killed once the store holds rows) or `decoder` (an image that begins with
MARK kills the process that prepares it).
"""

import ctypes
import sys
import threading

MARK = b"\xff\xd8\xff\xe0crash"


def crash_on_mark() -> None:
    """Run in every worker process before its work."""
    from prodrec.scoring import inputs

    prepare = inputs.prepare_image

    def prepare_or_die(data: bytes, *rest):
        if data.startswith(MARK):
            ctypes.string_at(0)  # as a decoder would: in this very thread
        return prepare(data, *rest)

    inputs.prepare_image = prepare_or_die


def main(fault: str, manifest: str, url: str, bundle: str) -> None:
    import ray
    from made import run
    from ray.cluster_utils import Cluster

    arguments = ("tag", manifest, "--to", url, "--classifier", bundle, "--run-id", "r", "--workers", "2", "--json")
    if fault == "decoder":
        ray.init(address="local", num_cpus=2, include_dashboard=False, runtime_env={"worker_process_setup_hook": crash_on_mark})
        sys.exit(run(*arguments))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 300_000_000})
    node = cluster.add_node(num_cpus=1, object_store_memory=300_000_000)
    ray.init(address=cluster.address)
    codes: list[int] = []
    work = threading.Thread(target=lambda: codes.append(run(*arguments)))
    work.start()
    from disturbed import rows_in

    while work.is_alive() and rows_in(url) == 0:
        work.join(0.1)
    print(f"killing a node at {rows_in(url)} listings", file=sys.stderr)
    cluster.remove_node(node, allow_graceful=False)
    work.join()
    ray.shutdown()
    cluster.shutdown()
    sys.exit(codes[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
