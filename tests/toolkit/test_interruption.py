from __future__ import annotations

import os
import signal
import threading

import pytest

from mmdistill.toolkit.run_control import SIGNALS, Interruption, exit_status, interruption, terminable


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_are_collected_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruption() as received:
        assert received == []
        os.kill(os.getpid(), number)
        assert received == [number]
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interruption) as raised, interruption() as received:  # noqa: PT012 (the signals come one by one)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal was not heard")
    assert raised.value.number == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_handlers_come_back_after_an_error() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ValueError, match="inside"), interruption():
        raise ValueError("inside")
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_another_thread_has_no_signals() -> None:
    received: list[list[int]] = []

    def work() -> None:
        with interruption() as signals, terminable():
            received.append(signals)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert received == [[]]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_request_to_end_is_an_interruption(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as raised, terminable():  # noqa: PT012 (the error says that no signal came)
        os.kill(os.getpid(), number)
        raise AssertionError("the signal was not heard")
    assert signal.getsignal(number) is before
    assert exit_status(raised.value) == 128 + number


def test_what_is_saved_between_two_waits_for_the_inner_one() -> None:
    with pytest.raises(Interruption), terminable():  # noqa: PT012 (the signals come one by one)
        with interruption() as received:
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the outer one was not put back")


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption() as received, terminable():
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_statuses_are_those_that_shells_expect() -> None:
    assert exit_status(KeyboardInterrupt()) == 130
    assert [exit_status(Interruption(number)) for number in (signal.SIGINT, signal.SIGTERM)] == [130, 143]
