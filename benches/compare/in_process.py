"""The crate fastembed, in a process of its own without a server: what a photo and a text cost with it, at its best."""

from bound import BATCHES, THREADS, cheapest
from orders import Worker
from workloads import TEXT_WORDS

# The best settings are looked for with these.
PHOTOS, TEXTS = "400x533", "text"


class Fastembed:
    """Measures one model's files. Raises RuntimeError where fastembed cannot take them."""

    def __init__(self, program, folder, bound, workloads, environment):
        command = [program, folder.path, folder.vision, folder.text, bound.tokenize.length_max]
        self.worker = Worker(command, environment)
        # By length, as the bound has them.
        self.workloads = {
            name: sorted(items, key=lambda item: len(bound.tokenize(item["text"]))) if name in TEXT_WORDS else items
            for name, items in workloads.items()
        }
        self.bound = bound
        self.settings, self.tried = {}, {}

    def choose(self, seconds):
        """Takes for photos and for texts the batch and the number of threads with the fewest CPU-seconds."""
        for workload, part in [(PHOTOS, "vision"), (TEXTS, "text")]:
            largest = self.bound.batch_sizes_max[part]
            tries = [(batch, threads) for batch in BATCHES for threads in THREADS if batch <= largest]
            best, costs = cheapest(tries, lambda setting, name=workload: self.measure(name, setting, seconds))
            self.settings[part] = best
            self.tried[part] = [
                {"batch": batch, "threads": threads, "cpu_seconds": cost, "chosen": (batch, threads) == best}
                for (batch, threads), cost in costs.items()
            ]

    def cost(self, workload, seconds):
        """CPU-seconds per input, from its bytes to its vector."""
        return self.measure(workload, self.settings["text" if workload in TEXT_WORDS else "vision"], seconds)

    def measure(self, workload, setting, seconds):
        batch, threads = setting
        order = {"items": self.workloads[workload], "batch": batch, "threads": threads, "seconds": seconds}
        return self.worker.order("measure", **order)["cpu_seconds"]

    def embeddings(self, items):
        return self.worker.order("embed", items=items, batch=1, threads=1)

    def stop(self):
        self.worker.stop()
