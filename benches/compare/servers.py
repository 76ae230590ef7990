"""Starts a server, waits until it answers, reads its CPU time, and ends it."""

import os
import resource
import socket
import subprocess
import time

READY_SECONDS_MAX = 120
STOP_SECONDS_MAX = 30
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Server:
    """A process that answers at an address; a context manager that ends it."""

    def __init__(self, command, environment, log):
        """`command` gets `--listen HOST:PORT` at its end. Its output goes to the file `log`."""
        self.address = f"127.0.0.1:{free_port()}"
        self.log = log
        self.began = time.monotonic()
        with log.open("wb") as output:
            command = [*map(str, command), "--listen", self.address]
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ready(self, answers=lambda address: True):
        """Seconds from the start until it listens and `answers` says yes of its address."""
        while not (self.listens() and answers(self.address)):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.what()} exited with {self.process.returncode}:\n{self.log.read_text()}")
            if time.monotonic() - self.began > READY_SECONDS_MAX:
                raise RuntimeError(f"{self.what()} does not answer:\n{self.log.read_text()}")
            time.sleep(0.005)
        return time.monotonic() - self.began

    def listens(self):
        host, port = self.address.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    def what(self):
        return " ".join(map(str, self.process.args[:2]))

    def cpu_seconds(self):
        """CPU time of all its threads since its start."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            # The name, in brackets, may have spaces. Behind it: the 14th and 15th field of the line.
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


    def resident_bytes(self):
        """Memory of the process that is not swapped out."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def busy_seconds():
    """CPU time of everything that runs on this machine, since it was started."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, interrupts, soft_interrupts, stolen, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + interrupts + soft_interrupts + stolen) / TICKS_A_SECOND


def own_seconds():
    """CPU time of this process and of those that it started and that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
