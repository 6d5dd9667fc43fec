"""The chapter's message queue, with the chapter's own class.

    python examples/chapter/message_queue.py

The messages are in a file. Here it is in a folder of its own, which goes when the program ends.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from consona.chapter import MessageQueue, narrate, show


def deliver(message: str) -> None:
    """What is done with a message. It may fail; then the message is there again."""
    show("Delivered:", message)


def fail(message: str) -> None:
    raise RuntimeError(f"nobody is at home for {message!r}")


def main() -> None:
    narrate()
    with tempfile.TemporaryDirectory() as folder:
        address = f"sqlite:///{Path(folder).as_posix()}/messages.db"
        message_queue = MessageQueue("SonaQueue", address)
        message_queue.add_message("Hello, World!")
        message_queue.add_message("Real-time communication is awesome!")

        try:
            message_queue.process_message(fail)
        except RuntimeError as error:
            show("Failed:", error)
        message_queue.process_message(deliver)
        message_queue.close()

        again = MessageQueue("SonaQueue", address)  # as another program would: the rest is still there
        show("Processed:", again.process_message())
        show("One more:", again.process_message())
        for name, count in (message_queue.get_stats() | {"queue_size": again.get_stats()["queue_size"]}).items():
            show(" ", name, count)
        again.close()
        message_queue.close()


if __name__ == "__main__":
    main()
