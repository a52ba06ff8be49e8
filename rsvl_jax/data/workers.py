"""How worker processes live and die."""

import multiprocessing
import os
import signal
import threading


def live_with_parent() -> None:
    """Makes this worker process live exactly as long as its parent, which alone heeds signals.

    Without this a SIGTERM to the process group would break the work of a parent that is about to
    save, and a killed parent would leave its workers behind for good.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
