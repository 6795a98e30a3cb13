from __future__ import annotations

import os
import signal
import threading

import pytest

from mmdistill.reference.interruption import interruption, terminable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_collected_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruption() as received:
        assert received == []
        os.kill(os.getpid(), number)
        assert received == [number]
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruption() as received:  # noqa: PT012 (the signals come one by one)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal was not heard")
    assert signal.getsignal(signal.SIGINT) is before


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="inside"), interruption():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_has_no_signals() -> None:
    received: list[list[int]] = []

    def work() -> None:
        with interruption() as signals:
            received.append(signals)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert received == [[]]


def test_a_request_to_end_is_an_interruption() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():  # noqa: PT012 (the error says that no signal came)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was not heard")
    assert signal.getsignal(signal.SIGTERM) is before
