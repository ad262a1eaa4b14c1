"""Drivers whose every step is chosen by a seed, with a clock of their own: they are held up, and they die."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Ended(BaseException):
    """What the threads of a driver meet that has died."""


@dataclass
class Driver:
    """One process: its threads, and what has become of it."""

    name: str
    dead: bool = False
    paused_until: float = 0.0
    ended: bool = False
    """Whether its main thread has come to its end."""
    pauses: list[tuple[float, float]] = field(default_factory=list)
    """When it stood still, from and until."""
    error: BaseException | None = None


@dataclass(eq=False)
class Task:
    """One thread of a driver."""

    driver: Driver
    wakes: float = 0.0
    ended: bool = False
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class World:
    """Runs one thread at a time, each from one request to the next."""

    STEP_S = 0.05
    """The most that a request takes."""

    def __init__(self, seed: int, *, deaths: int, pauses: int, longest_s: float) -> None:
        self.clock = 0.0
        self.random = random.Random(seed)
        self.drivers: list[Driver] = []
        self._tasks: dict[int, Task] = {}
        self._all: list[Task] = []
        self._back = threading.Semaphore(0)
        self._deaths, self._pauses, self._longest_s = deaths, pauses, longest_s

    def add(self, name: str, work: Callable[[], None], *, in_s: float = 0.0) -> Driver:
        """Lets a driver begin some work after a while."""
        driver = Driver(name)
        self.drivers.append(driver)

        def main() -> None:
            try:
                work()
            except Ended:
                pass
            except BaseException as err:
                driver.error = err
            finally:
                driver.ended = True

        self._spawn(driver, main, self.clock + in_s)
        return driver

    def run(self) -> None:
        """Lets everything happen until all drivers have ended or died."""
        while living := [task for task in self._all if not task.ended and not task.driver.dead]:
            ready = [task for task in living if max(task.wakes, task.driver.paused_until) <= self.clock]
            if not ready:
                self.clock = min(max(task.wakes, task.driver.paused_until) for task in living)
                continue
            task = self.random.choice(ready)
            if not self._misfortune(task.driver):
                self.clock += self.random.uniform(0, self.STEP_S)
                self._continue(task)

    def calm(self) -> None:
        """Nobody dies or stands still from here on."""
        self._deaths = self._pauses = 0

    def close(self) -> None:
        """Ends the threads of the dead."""
        for driver in self.drivers:
            driver.dead = True
        for task in self._all:
            while not task.ended:
                self._continue(task)

    def current(self) -> Driver:
        """The driver whose thread calls."""
        return self._tasks[threading.get_ident()].driver

    def turn(self) -> None:
        """What a thread calls before each request: others may come first."""
        self.sleep(0.0)

    def sleep(self, seconds: float) -> None:
        """Lets a thread sleep."""
        task = self._tasks[threading.get_ident()]
        self._check(task)
        task.wakes = self.clock + seconds
        self._back.release()
        task.go.acquire()
        self._check(task)

    def _check(self, task: Task) -> None:
        if task.driver.dead:
            raise Ended

    def _misfortune(self, driver: Driver) -> bool:
        """Whether a driver dies now, or stands still for a while."""
        if self._deaths and self.random.random() < 0.01:
            self._deaths -= 1
            driver.dead = True
        elif self._pauses and self.random.random() < 0.02:
            self._pauses -= 1
            driver.paused_until = self.clock + self.random.uniform(0, self._longest_s)
            driver.pauses.append((self.clock, driver.paused_until))
        else:
            return False
        return True

    def _spawn(self, driver: Driver, work: Callable[[], None], wakes: float) -> Task:
        task = Task(driver, wakes)

        def body() -> None:
            self._tasks[threading.get_ident()] = task
            task.go.acquire()
            try:
                self._check(task)
                work()
            except Ended:
                pass
            finally:
                task.ended = True
                self._back.release()

        self._all.append(task)
        threading.Thread(target=body, daemon=True).start()
        return task

    def _continue(self, task: Task) -> None:
        task.go.release()
        self._back.acquire()

    def thread(self, target: Callable[[], None], **_: Any) -> "Thread":
        """What stands for `threading.Thread` in a driver."""
        return Thread(self, target)

    def event(self) -> "Event":
        """What stands for `threading.Event` in a driver."""
        return Event(self)

    def begin(self, target: Callable[[], None]) -> Task:
        """Lets the driver of the calling thread begin another one."""
        return self._spawn(self.current(), target, self.clock)


class Thread:
    """A thread of a driver."""

    def __init__(self, world: World, target: Callable[[], None]) -> None:
        self._world, self._target, self._task = world, target, None

    def start(self) -> None:
        self._task = self._world.begin(self._target)

    def join(self) -> None:
        while self._task is not None and not self._task.ended:
            self._world.sleep(self._world.STEP_S)


class Event:
    """An event that is waited for in the time of its world."""

    def __init__(self, world: World) -> None:
        self._world, self._is_set = world, False

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float) -> bool:
        until = self._world.clock + timeout
        while not self._is_set and self._world.clock < until:
            self._world.sleep(min(0.5, max(0.0, until - self._world.clock)))
        return self._is_set
