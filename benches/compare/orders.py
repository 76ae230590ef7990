"""A process that takes orders as lines of JSON and answers in the same."""

import json
import subprocess


class Worker:
    """The process, as the one who orders sees it."""

    def __init__(self, command, environment):
        pipe = subprocess.PIPE
        self.command = list(map(str, command))
        self.process = subprocess.Popen(self.command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def order(self, what, **details):
        """What became of the order. Raises RuntimeError with the reason if it failed."""
        try:
            print(json.dumps({"order": what, **details}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"{self.command[0]} exited with {self.process.wait()}")
        answer = json.loads(line)
        if "failed" in answer:
            raise RuntimeError(f"{what}: {answer['failed']}")
        return answer["done"]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
