"""What a photo or a text costs at the least on this machine: each part alone, at its best, with no server around it."""

import time
from pathlib import Path

import reference
from workloads import TEXT_WORDS

BATCHES = [1, 4, 8, 16]
THREADS = [1, 2]


class Bound:
    """Measures the parts of one model, in this process."""

    def __init__(self, folder, workloads):
        self.folder = folder
        self.preprocess = reference.Preprocess(folder)
        self.tokenize = reference.Tokenize(folder)
        self.photos = {
            name: [Path(item["photo"]).read_bytes() for item in items]
            for name, items in workloads.items()
            if name not in TEXT_WORDS
        }
        self.tensors = [self.preprocess(photo) for photos in self.photos.values() for photo in photos]
        # By length, so that a batch holds texts of like length and little padding.
        self.texts = {
            name: sorted((self.tokenize(item["text"]) for item in workloads[name]), key=len) for name in TEXT_WORDS
        }
        self.settings, self.tried, self.batch_sizes_max, self.towers = {}, {}, {}, {}

    def choose(self, seconds):
        """Takes for each tower the batch and the number of threads with the fewest CPU-seconds."""
        candidates = {"vision": self.vision, "text": self.text, "text, padded": self.padded_text}
        self.towers = {"alone": self.text(1)[0]}
        for part, make in candidates.items():
            towers = {threads: make(threads) for threads in THREADS}
            largest = reference.batch_size_max(towers[THREADS[0]][0]) or max(BATCHES)
            tries = [(batch, threads) for batch in BATCHES for threads in THREADS if batch <= largest]
            runs = {threads: run for threads, (_, run) in towers.items()}
            best, costs = cheapest(tries, lambda each, runs=runs: measure(runs[each[1]], each[0], seconds))
            self.settings[part] = best, runs[best[1]]
            self.batch_sizes_max[part] = largest
            self.tried[part] = [
                {"batch": batch, "threads": threads, "cpu_seconds": cost, "chosen": (batch, threads) == best}
                for (batch, threads), cost in costs.items()
            ]

    def vision(self, threads):
        tower = reference.VisionTower(self.folder, threads, spinning=False)
        return tower, lambda start, count: tower(cut(self.tensors, start, count))

    def text(self, threads):
        tower = reference.TextTower(self.folder, self.tokenize, threads, spinning=False)
        return tower, lambda start, count, name="text": tower(cut(self.texts[name], start, count))

    def padded_text(self, threads):
        tower = reference.TextTower(self.folder, self.tokenize, threads, spinning=False)
        length = self.tokenize.length_max
        return tower, lambda start, count, name="text": tower(cut(self.texts[name], start, count), length)

    def tower_cost(self, part, seconds):
        """CPU-seconds per item of a tower with its chosen setting."""
        (batch, _), run = self.settings[part]
        return measure(run, batch, seconds)

    def text_costs(self, workload, seconds):
        """CPU-seconds per text of the text tower: at its best, one by one, and padded to the longest, each with its
        chosen setting."""
        costs = {}
        for part in ("text", "text, padded"):
            (batch, _), run = self.settings[part]
            costs[part] = measure(lambda start, count, run=run: run(start, count, workload), batch, seconds)
        alone = self.towers["alone"]
        costs["text, alone"] = measure(lambda start, count: alone(cut(self.texts[workload], start, count)), 1, seconds)
        return costs

    def photo_costs(self, workload, seconds):
        """CPU-seconds per photo before the tower, by part."""
        photos = self.photos[workload]
        costs = {"decode": 0.0, "resize": 0.0, "normalise": 0.0}
        done, deadline = 0, time.monotonic() + seconds
        while done < len(photos) or time.monotonic() < deadline:
            began = time.process_time()
            picture = self.preprocess.decode(photos[done % len(photos)])
            decoded = time.process_time()
            picture = self.preprocess.resize(picture)
            resized = time.process_time()
            self.preprocess.tensor(picture)
            costs["decode"] += decoded - began
            costs["resize"] += resized - decoded
            costs["normalise"] += time.process_time() - resized
            done += 1
        return {part: cost / done for part, cost in costs.items()}

    def embeddings(self, workloads):
        """The reference's embedding of every input: photos decoded in full, one at a time, one thread."""
        vision, _ = self.vision(1)
        text, _ = self.text(1)
        photos = {
            name: [vision([self.preprocess(photo)])[0] for photo in photos] for name, photos in self.photos.items()
        }
        texts = {name: [text([self.tokenize(item["text"])])[0] for item in workloads[name]] for name in TEXT_WORDS}
        return {**photos, **texts}


def cheapest(tries, cost):
    """The try that costs least, and what each costs."""
    costs = {each: [] for each in tries}
    # Twice, one after the other, so that a disturbance does not decide.
    for _ in range(2):
        for each in tries:
            costs[each].append(cost(each))
    least = {each: min(values) for each, values in costs.items()}
    return min(least, key=least.get), least


def cut(inputs, start, count):
    """`count` inputs in a row, beginning again at the first after the last."""
    return [inputs[(start + number) % len(inputs)] for number in range(count)]


def measure(run, batch, seconds):
    """CPU-seconds per item. The first run is not counted: it plans memory."""
    run(0, batch)
    done, deadline, began = 0, time.monotonic() + seconds, time.process_time()
    while done == 0 or time.monotonic() < deadline:
        run(done, batch)
        done += batch
    return (time.process_time() - began) / done
