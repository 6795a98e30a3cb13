from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from mmdistill.toolkit.interruption import (
    TERMINATION_SIGNALS,
    Interruption,
    collect_signals,
    exit_status,
    raise_on_signal,
)


@pytest.mark.parametrize("number", TERMINATION_SIGNALS)
def test_signals_are_collected_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with collect_signals() as received:
        assert received == []
        os.kill(os.getpid(), number)
        assert received == [number]
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interruption) as raised, collect_signals() as received:  # noqa: PT012 (the signals come one by one)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal was not heard")
    assert raised.value.number == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_handlers_come_back_after_an_error() -> None:
    before = [signal.getsignal(number) for number in TERMINATION_SIGNALS]
    with pytest.raises(ValueError, match="inside"), collect_signals():
        raise ValueError("inside")
    assert [signal.getsignal(number) for number in TERMINATION_SIGNALS] == before


def test_another_thread_has_no_signals() -> None:
    received: list[list[int]] = []

    def work() -> None:
        with collect_signals() as signals, raise_on_signal():
            received.append(signals)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert received == [[]]


@pytest.mark.parametrize("number", TERMINATION_SIGNALS)
def test_a_request_to_end_is_an_interruption(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as raised, raise_on_signal():  # noqa: PT012 (the error says that no signal came)
        os.kill(os.getpid(), number)
        raise AssertionError("the signal was not heard")
    assert signal.getsignal(number) is before
    assert exit_status(raised.value) == 128 + number


def test_what_is_saved_between_two_waits_for_the_inner_one() -> None:
    with pytest.raises(Interruption), raise_on_signal():  # noqa: PT012 (the signals come one by one)
        with collect_signals() as received:
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the outer one was not put back")


def test_signals_that_a_platform_lacks_are_left_out() -> None:
    """As on Windows, which has no SIGHUP."""
    script = (
        "import signal; del signal.SIGHUP; from mmdistill.toolkit.interruption import *; print(TERMINATION_SIGNALS)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str((signal.SIGINT, signal.SIGTERM))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with collect_signals() as received, raise_on_signal():
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_statuses_are_those_that_shells_expect() -> None:
    assert exit_status(KeyboardInterrupt()) == 130
    assert [exit_status(Interruption(number)) for number in (signal.SIGINT, signal.SIGTERM)] == [130, 143]
