"""Chromium, driven by Selenium, on the pages: open, join, say, read, look."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")

try:
    from selenium import webdriver
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.remote.webelement import WebElement
    from selenium.webdriver.support.wait import WebDriverWait
except ImportError:
    webdriver = Keys = None  # type: ignore[assignment, misc]

needs_browser = pytest.mark.skipif(
    not (webdriver and CHROMIUM and CHROMEDRIVER), reason="needs selenium, chromium and chromedriver"
)

PATIENCE = 60
"""Seconds after which what should have happened is a failure."""

SIZE = (1280, 800)
"""Pixels of a page, if nothing else is said."""

ROLES = {"banner", "main", "complementary", "form", "region", "log", "list", "image", "button", "textbox", "heading"}

FLAGS = [
    "--headless",
    "--no-sandbox",  # it cannot be had as root, nor in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",  # it shall talk to nobody but our server
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]


class Page:
    """A tab."""

    def __init__(self, driver: Any, handle: str) -> None:
        self.driver = driver
        self._handle = handle

    def here(self) -> Any:
        """The driver, with this tab in front."""
        self.driver.switch_to.window(self._handle)
        return self.driver

    def close(self) -> None:
        self.here().close()

    def find(self, identifier: str) -> WebElement:
        return self.here().find_element(By.ID, identifier)

    def text(self, identifier: str) -> str:
        """What can be seen of this element's text."""
        return self.find(identifier).text

    def wait(self, condition: Callable[[Page], Any]) -> Any:
        """Wait until this is true, and return it."""
        return WebDriverWait(self.here(), PATIENCE, poll_frequency=0.05).until(lambda _: condition(self))

    def wait_for(self, identifier: str, text: str) -> None:
        """Wait until this is seen in this element; else the failure tells what is."""
        try:
            self.wait(lambda page: text in page.text(identifier))
        except TimeoutException:
            raise AssertionError(f"no {text!r} in #{identifier}, but {self.text(identifier)!r}") from None

    def run(self, script: str, *args: Any) -> Any:
        """The value of a script."""
        return self.here().execute_script(script, *args)

    def module(self, name: str, script: str, *args: Any) -> Any:
        """The value of a script that has the module ``/name.js`` as `module`."""
        return self.run(f"return import('/{name}.js').then((module) => {{ {script} }})", *args)

    def focused(self) -> str:
        """The id of what the keyboard is on."""
        return self.run("return document.activeElement.id")

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        self.here().switch_to.active_element.send_keys(*keys)

    def resize(self, width: int, height: int) -> None:
        """Pixels of what the page has to itself."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, **features: str) -> None:
        """Media features: ``color_scheme="dark"``, ``reduced_motion="reduce"``."""
        pairs = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self._devtools("Emulation.setEmulatedMedia", features=pairs)

    def _devtools(self, command: str, **arguments: Any) -> Any:
        return self.here().execute_cdp_cmd(command, arguments)

    def controls(self) -> list[tuple[str, str]]:
        """What assistive technology is told of: role and name of all that can be worked with, and of landmarks."""
        nodes = self._devtools("Accessibility.getFullAXTree")["nodes"]
        told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
        return [(role, name) for role, name in told if role in ROLES]

    def screenshot(self, path: Path) -> None:
        self.here().save_screenshot(str(path))

    def complaints(self) -> list[str]:
        """What the browser has complained about since the last time: errors, and whatever the policy forbids."""
        return [entry["message"] for entry in self.here().get_log("browser")]

    # The chat.

    def join(self, name: str) -> None:
        """Fill in the form and send it off."""
        field = self.find("name")
        field.clear()
        field.send_keys(name, Keys.ENTER)

    def say(self, text: str) -> None:
        self.find("text").send_keys(text, Keys.ENTER)

    def log(self) -> list[str]:
        """The lines of the conversation, without their times: ``bob: hello``, ``bob entered``."""
        return self.run(
            """
            return [...document.querySelectorAll("#log > *")].map((row) => {
              const copy = row.cloneNode(true);
              copy.querySelectorAll(":scope > time:last-child").forEach((time) => time.remove());
              const words = copy.querySelector(".text");
              if (!words) return copy.textContent.trim();
              return `${copy.querySelector(".name").textContent}: ${words.textContent}`;
            });
            """
        )

    def members(self) -> list[str]:
        return self.run("return [...document.querySelectorAll('#members .name')].map((name) => name.textContent)")


class Browser:
    """A browser with a fresh profile."""

    def __init__(self, directory: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in [*FLAGS, f"--user-data-dir={directory}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # The path is given, so that Selenium looks for no driver, and downloads none.
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(CHROMEDRIVER))
        self._first = self.driver.current_window_handle  # stays open and empty: with the last tab the browser would go

    def open(self, url: str) -> Page:
        """Open a page in a new tab."""
        self.driver.switch_to.window(self._first)
        self.driver.switch_to.new_window("tab")
        self.driver.get(url)
        page = Page(self.driver, self.driver.current_window_handle)
        page.resize(*SIZE)
        return page


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, for as long as this lasts."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        started = Browser(directory)
        try:
            yield started
        finally:
            started.driver.quit()
