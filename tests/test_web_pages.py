"""The pages of the web door: what stands in their files, and what they do in a real browser.

The server is played by `web.mock`, so that each test says when what comes, and when the connection breaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import pytest
from web.browser import Browser, Keys, Page, browser, needs_browser
from web.mock import PAGES, Mock, Peer

from framewire.servers.chat import LINE_SIZE, NAME_LENGTH, NameRefused, to_name

HTML = ["chat.html", "stream.html"]
FILES = sorted(path.name for path in PAGES.iterdir())
SCRIPTS = [name for name in FILES if name.endswith(".js")]
STYLES = [name for name in FILES if name.endswith(".css")]

TIME = 1552068299.0


def read(name: str) -> str:
    return (PAGES / name).read_text("utf-8")


# The files, without a browser.


class Elements(HTMLParser):
    """The start tags of a page: names with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.content: dict[str, str] = {}
        """The text in each kind of element."""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        self.content[self._inside] = self.content.get(self._inside, "") + data.strip()

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.found if tag in tags or not tags]

    def ids(self) -> list[str]:
        return [attributes["id"] for attributes in self.all() if "id" in attributes]


@pytest.mark.parametrize("name", HTML)
def test_nothing_is_inline(name: str) -> None:
    page = Elements(read(name))
    assert page.all("style") == []
    assert page.content.get("script", "") == ""
    for attributes in page.all():
        assert not [key for key in attributes if key == "style" or key.startswith("on")]
        assert not [value for value in attributes.values() if value.strip().lower().startswith("javascript:")]


@pytest.mark.parametrize("name", HTML)
def test_a_page_names_only_files_that_are_there(name: str) -> None:
    page = Elements(read(name))
    named = [attributes[key] for attributes in page.all() for key in ("src", "href") if key in attributes]
    assert named
    assert set(named) <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_nothing_leads_outside(name: str) -> None:
    text = read(name).replace("http://www.w3.org/2000/svg", "")  # the name of a namespace, which nobody fetches
    assert not re.search(r"""\b(https?|wss?|data|blob):|["'(]//|@import|url\(""", text)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_imports_only_what_is_there_and_makes_no_html(name: str) -> None:
    text = read(name)
    imported = re.findall(r'from "([^"]*)"', text)
    assert all(path.startswith("./") and path[2:] in SCRIPTS for path in imported)
    assert not re.search(
        r"(inner|outer)HTML|insertAdjacentHTML|setHTML|document\.write|\beval\b|\bFunction\(|DOMParser|srcdoc"
        r"|createContextualFragment|setAttribute\(\"style|cssText|\bset(Timeout|Interval)\(\s*[\"'`]",
        text,
    )


@pytest.mark.parametrize("name", HTML)
def test_language_title_and_viewport(name: str) -> None:
    page = Elements(read(name))
    assert [attributes.get("lang") for attributes in page.all("html")] == ["en"]
    assert page.content["title"]
    viewports = [attributes["content"] for attributes in page.all("meta") if attributes.get("name") == "viewport"]
    assert len(viewports) == 1
    assert "width=device-width" in viewports[0]
    assert "maximum-scale" not in viewports[0]  # everybody may zoom
    assert "user-scalable" not in viewports[0]


@pytest.mark.parametrize("name", HTML)
def test_every_field_has_a_label(name: str) -> None:
    page = Elements(read(name))
    labels = [attributes["for"] for attributes in page.all("label")]
    assert labels == [attributes["id"] for attributes in page.all("input", "textarea", "select")]


@pytest.mark.parametrize("name", HTML)
def test_ids_are_unique_and_those_referred_to_exist(name: str) -> None:
    page = Elements(read(name))
    ids = page.ids()
    assert len(ids) == len(set(ids))
    keys = ("for", "aria-labelledby", "aria-describedby", "aria-controls", "aria-owns", "form", "list")
    referred = [one for attributes in page.all() for key in keys for one in attributes.get(key, "").split()]
    assert set(referred) <= set(ids)


@pytest.mark.parametrize(("name", "scripts"), [("chat.html", ["chat.js"]), ("stream.html", ["stream.js"])])
def test_elements_that_the_scripts_want_exist(name: str, scripts: list[str]) -> None:
    wanted = {
        first or second
        for script in scripts
        for first, second in re.findall(r'\belement(?:\.(\w+)|\["([^"]+)"\])', read(script))
    }
    status = re.search(r"\[([^]]*)\]\.map\(\(id\)", read("status.js"))
    assert status
    wanted |= set(re.findall(r'"(\w+)"', status[1]))
    assert len(wanted) > 5
    assert wanted <= set(Elements(read(name)).ids())


@pytest.mark.parametrize("name", STYLES)
def test_styles_use_variables_that_are_defined(name: str) -> None:
    defined = set(re.findall(r"(--[\w-]+):", read("common.css") + read(name)))
    assert set(re.findall(r"var\((--[\w-]+)\)", read(name))) <= defined


def test_the_limits_are_those_of_the_room() -> None:
    assert f"const LINE_SIZE = {LINE_SIZE};" in read("chat.js")
    assert f"const NAME_LENGTH = {NAME_LENGTH};" in read("names.js")


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it, of ``#rrggbb``."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted([luminance(first), luminance(second)])
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str) -> None:
    colours: dict[str, str] = {}
    for name in ("common.css", "chat.css"):
        light, dark = read(name).split("@media (prefers-color-scheme: dark)")
        pattern = r"(--[\w-]+): (#[0-9a-f]{6});|\.(colour-\d+) \{ color: (#[0-9a-f]{6})"
        found = re.findall(pattern, light if scheme == "light" else dark)
        colours |= {variable or name: first or second for variable, first, name, second in found}
    names = [name for name in colours if name.startswith("colour-")]
    assert names == [f"colour-{number}" for number in range(12)]
    assert "const COLOUR_COUNT = 12;" in read("names.js")
    for ground in ("--ground", "--surface", "--tint"):
        for name in ["--text", "--muted", *names]:
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for ground in ("--ground", "--surface"):
        for name in ("--bad", "--wait"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for name in ("--edge", "--accent", "--good"):  # borders, bars, dots: 3:1
            assert contrast(colours[name], colours[ground]) >= 3, (name, ground)
    assert contrast(colours["--on-accent"], colours["--accent"]) >= 4.5


# In a browser.

Open = Callable[[str], tuple[Mock, Page]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Opens a page from a server of its own. At the end nothing may have been missing, or against the policy."""
    opened: list[tuple[Mock, Page]] = []

    def open_it(name: str) -> tuple[Mock, Page]:
        mock = Mock(name).__enter__()
        page = chromium.open(mock.url)
        opened.append((mock, page))
        return mock, page

    yield open_it
    for mock, page in opened:
        complaints = [text for text in page.complaints() if "WebSocket connection" not in text]
        page.close()
        mock.__exit__()
        assert complaints == []
        assert mock.missing == []


def enter(mock: Mock, page: Page, *others: str) -> Peer:
    """Somebody called ann comes in."""
    page.join("ann")
    return welcome(mock, page, *others)


def welcome(mock: Mock, page: Page, *others: str) -> Peer:
    peer = mock.accept()
    assert peer.receive() == {"type": "join", "name": "ann"}
    peer.send(type="welcome", name="ann", members=["ann", *others], time=TIME)
    page.wait_for("state", "Connected")
    return peer


def says(page: Page, *lines: str) -> None:
    """Wait until these are the last lines of the conversation."""
    page.wait(lambda page: page.log()[-len(lines) :] == [*lines])


def put(page: Page, text: str) -> None:
    """Text into the field, as if it had been pasted."""
    page.run(
        """
        const field = document.getElementById("text");
        field.value = arguments[0];
        field.dispatchEvent(new Event("input"));
        """,
        text,
    )


@needs_browser
def test_somebody_comes_in_listens_and_speaks(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    assert page.text("state") == "Not connected"
    assert page.focused() == "name"
    peer = enter(mock, page, "bob", "127.0.0.1:48953")
    assert page.members() == ["ann", "bob", "127.0.0.1:48953"]
    assert page.text("count") == "3"
    assert page.focused() == "text"
    peer.send(type="said", name="bob", text="hello, ann", time=TIME)
    says(page, "You entered as ann", "bob: hello, ann")
    page.say("hello, bob")
    assert peer.receive() == {"type": "say", "text": "hello, bob"}
    says(page, "bob: hello, ann", "ann: hello, bob")
    assert page.run("return [...document.querySelectorAll('.own .text')].map((one) => one.textContent)") == [
        "hello, bob"
    ]
    assert page.find("text").get_property("value") == ""
    peer.send(type="entered", name="cat", time=TIME)
    peer.send(type="left", name="bob", time=TIME)
    says(page, "cat entered", "bob left")
    assert page.members() == ["ann", "127.0.0.1:48953", "cat"]
    assert page.text("count") == "3"


@needs_browser
def test_times_are_short_and_their_attributes_are_whole(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    peer = enter(mock, page)
    peer.send(type="said", name="bob", text="hello", time=TIME)
    says(page, "bob: hello")
    text, machine, title = page.run(
        "const one = document.querySelector('.said time'); return [one.textContent, one.dateTime, one.title]"
    )
    assert machine == "2019-03-08T18:04:59.000Z"
    assert re.fullmatch(r"\d\d:\d\d", text)
    assert "2019" in title
    assert text in title


@needs_browser
def test_a_refused_name_is_told_beside_the_field(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    page.join("a:b")
    assert page.text("name-error") == "A name must not have [ ] ( ) : in it."
    assert mock.peers.empty()
    page.join("ann")
    page.press(Keys.ENTER)  # impatience
    peer = mock.accept()
    assert peer.receive() == {"type": "join", "name": "ann"}
    assert mock.peers.empty()
    peer.send(type="refused", reason="the name ann is taken")
    page.wait_for("name-error", "The name ann is taken.")
    assert peer.receive() is None
    assert page.text("state") == "Not connected"
    assert page.find("name").get_attribute("aria-invalid") == "true"
    assert page.focused() == "name"
    enter(mock, page)
    assert page.find("name").get_attribute("aria-invalid") == "false"


@needs_browser
def test_the_page_refuses_the_names_that_the_room_refuses(open_page: Open) -> None:
    _, page = open_page("chat.html")
    names = ["", "ann", "a b", "é" * 32, "é" * 33, "\U0001f600" * 32, "\U0001f600" * 33, "a\tb", "a\u202eb", "a\u00a0b"]
    names += ["a\u200bb", "a\nb", "نور", "a\ue000", "a\u3000b", *"[]():"]

    def refusal(name: str) -> str:
        try:
            to_name(name.encode())
        except NameRefused as reason:
            return str(reason).partition(" in it")[0]
        return ""

    told = page.module("names", "return module.complaint ? arguments[0].map(module.complaint) : null", names)
    assert [text.partition(" in it")[0] for text in told] == [*map(refusal, names)]


@needs_browser
def test_a_name_has_the_same_colour_everywhere(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    names = [f"somebody {number}" for number in range(50)]
    peer = enter(mock, page, *names)
    for name in names:
        peer.send(type="said", name=name, text="hello", time=TIME)
    says(page, "somebody 49: hello")
    colours: dict[str, str] = {}
    for name, colour in page.run(
        "return [...document.querySelectorAll('.name')].map((one) => [one.textContent, getComputedStyle(one).color])"
    ):
        assert colours.setdefault(name, colour) == colour
    assert len(set(colours.values())) == 12


@needs_browser
def test_text_is_only_ever_text(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    evil = "<img src=x onerror=\"document.title='gone'\"><script>document.title='gone'</script>&amp;"
    peer = enter(mock, page, evil)
    peer.send(type="entered", name=f"{evil}2", time=TIME)
    peer.send(type="said", name=evil, text=evil, time=TIME)
    says(page, f"{evil}2 entered", f"{evil}: {evil}")
    assert page.members() == ["ann", evil, f"{evil}2"]
    assert page.run("return document.querySelectorAll('body img, body script').length") == 0
    assert "framewire" in page.here().title


@needs_browser
def test_what_is_not_understood_is_ignored(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    peer = enter(mock, page)
    for text in ("", "{", "null", "3", "[]", '{"type": 3}', '{"type": "toString"}', '{"type": "__proto__"}'):
        peer.send_text(text)
    peer.send(type="dance", name="bob")
    peer.send(type="entered", name="ann", time=TIME)  # who is here already
    peer.send(type="left", name="cat", time=TIME)  # who was not
    peer.send(type="said", name="bob", text="after all that", time=TIME)
    says(page, "You entered as ann", "bob: after all that")


@needs_browser
def test_the_connection_comes_back_and_nothing_is_lost(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    peer = enter(mock, page, "bob")
    peer.send(type="said", name="bob", text="before", time=TIME)
    says(page, "bob: before")
    page.find("text").send_keys("half a li")
    peer.drop()
    page.wait_for("state", "Reconnecting")
    assert page.find("now").is_displayed()
    page.press("ne", Keys.ENTER)
    page.wait_for("hint", "Not sent")
    assert page.find("text").get_property("value") == "half a line"
    peer = welcome(mock, page, "cat")
    assert page.members() == ["ann", "cat"]
    assert not page.find("now").is_displayed()
    assert page.text("hint") == ""
    page.press(Keys.ENTER)
    assert peer.receive() == {"type": "say", "text": "half a line"}
    log = page.log()
    assert log[:2] == ["You entered as ann", "bob: before"]
    assert re.fullmatch(r"You are back as ann\. What was said since \d\d:\d\d is missing\.", log[2])
    assert log[3:] == ["ann: half a line"]


@needs_browser
def test_nobody_has_to_wait_and_the_focus_is_not_lost(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    enter(mock, page).close()
    mock.accept().drop()  # the second wait is longer
    page.wait_for("countdown", " s…")
    page.find("now").click()
    assert page.focused() == "now"
    welcome(mock, page)
    assert page.focused() == "text"


@needs_browser
def test_a_name_that_is_still_taken_is_asked_for_again(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    enter(mock, page).drop()
    for _ in range(2):
        peer = mock.accept()
        assert peer.receive() == {"type": "join", "name": "ann"}
        peer.send(type="refused", reason="the name ann is taken")
        page.wait_for("trouble", "The name ann is taken.")
        assert peer.receive() is None
    page.find("rename").click()
    assert page.focused() == "name"
    assert page.text("state") == "Not connected"
    page.press("anna", Keys.ENTER)
    peer = mock.accept()
    while (asked := peer.receive()) != {"type": "join", "name": "anna"}:
        assert asked in (None, {"type": "join", "name": "ann"})  # an attempt that was on its way
        peer = peer if asked else mock.accept()
    peer.send(type="welcome", name="anna", members=["anna"], time=TIME)
    page.wait_for("state", "Connected")
    assert page.log()[0] == "You entered as ann"
    assert page.log()[1].startswith("You are back as anna.")
    assert not page.find("trouble").is_displayed()


@needs_browser
def test_lines_are_one_by_one_and_not_too_long(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    peer = enter(mock, page)
    put(page, "é" * (LINE_SIZE // 2) + "x")
    page.press(Keys.ENTER)
    page.wait_for("hint", "at most 4,096 bytes")
    assert page.text("size") == "4,097 of 4,096 bytes"
    put(page, "é" * (LINE_SIZE // 2))
    assert page.text("hint") == ""
    page.press(Keys.ENTER)
    assert peer.receive() == {"type": "say", "text": "é" * (LINE_SIZE // 2)}
    put(page, "one\r\n\n  \ntwo\n")
    page.press(Keys.ENTER)
    assert [peer.receive(), peer.receive()] == [{"type": "say", "text": "one"}, {"type": "say", "text": "two"}]
    put(page, "   ")
    page.press(Keys.ENTER)
    put(page, "three")
    page.press(Keys.ENTER)
    assert peer.receive() == {"type": "say", "text": "three"}


@needs_browser
def test_the_page_keeps_so_much_and_follows_unless_somebody_reads(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    peer = enter(mock, page)
    at_end = (
        "const log = document.getElementById('log'); return log.scrollHeight - log.scrollTop - log.clientHeight < 2"
    )

    def hear(first: int, last: int) -> None:
        for number in range(first, last):
            peer.send(type="said", name="bob", text=f"line {number}", time=TIME)
        page.wait(lambda page: page.log()[-1] == f"bob: line {last - 1}")

    hear(0, 2500)
    assert page.wait(lambda page: page.run(at_end))
    log = page.log()
    assert len(log) <= 2000
    assert log[0] == "This page keeps at most 2,000 lines; older ones are gone."
    assert log[1:] == [f"bob: line {number}" for number in range(2500 - len(log) + 1, 2500)]
    assert not page.find("news").is_displayed()

    # Somebody scrolls back; the lines do not run away under their eyes.
    page.run("document.getElementById('log').scrollTop -= 5000")
    looking = """
        const place = (one) => one.getBoundingClientRect();
        const log = document.getElementById("log");
        const first = [...log.children].find((one) => place(one).top > place(log).top);
        return [first.textContent, Math.round(place(first).top)];
    """
    seen = page.run(looking)
    hear(2500, 2800)
    page.wait_for("news", "300 new messages")
    assert page.run(looking) == seen
    assert not page.run(at_end)
    page.find("news").click()
    assert page.wait(lambda page: page.run(at_end))
    assert not page.find("news").is_displayed()
    hear(2800, 2900)
    assert page.wait(lambda page: page.run(at_end))


@needs_browser
def test_the_keyboard_is_enough(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    page.resize(360, 740)
    page.press("ann", Keys.TAB, Keys.SPACE)  # Tab to the button, and press it with the space bar
    welcome(mock, page, "bob")
    visited = []
    while not visited or page.focused() not in (visited[0], ""):
        visited.append(page.focused())
        page.press(Keys.TAB)
    assert visited == ["text", "send"]
    page.find("people").send_keys(Keys.ENTER)
    assert page.find("members").is_displayed()
    page.press(Keys.ESCAPE)
    assert not page.find("members").is_displayed()
    assert page.focused() == "people"
    page.press(Keys.TAB)
    assert page.focused() == "log"
    page.press(Keys.TAB, Keys.ESCAPE)
    assert page.focused() == "text"  # in which Escape does nothing


@needs_browser
@pytest.mark.parametrize("name", HTML)
def test_all_has_room_on_a_phone(name: str, open_page: Open) -> None:
    mock, page = open_page(name)
    page.resize(360, 740)
    long = "x" * 3000
    if name == "chat.html":
        peer = enter(mock, page, "b" * 32, "255.255.255.255:65535")
        peer.send(type="said", name="b" * 32, text=long, time=TIME)
        says(page, f"{'b' * 32}: {long}")
        page.find("people").click()
    else:
        peer = mock.accept()
        peer.send(type="hello", source=long, interval=1.0, time=TIME, count=10**12)
        peer.send(type="update", count=10**12 + 1, newest=[long], time=TIME)
        page.wait_for("list", "xxx")
    peer.drop()
    page.wait_for("state", "Reconnecting")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    wide = """return [...document.querySelectorAll("body *")]
        .filter((one) => one.getBoundingClientRect().right > 360.5).map((one) => one.id || one.outerHTML)"""
    assert page.run(wide) == []
    inner = "return ['log', 'here', 'list'].map((id) => document.getElementById(id)).filter((one) => one)"
    assert page.run(f"{inner}.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.id)") == []
    sizes = page.run(
        "return [...document.querySelectorAll('input, textarea')].map((one) => getComputedStyle(one).fontSize)"
    )
    assert all(float(size.removesuffix("px")) >= 16 for size in sizes)  # else a phone zooms in, and stays so
    page.resize(740, 360)  # on its side
    assert page.find("log" if name == "chat.html" else "list").size["height"] >= 100


@needs_browser
def test_assistive_technology_is_told_what_all_is(open_page: Open) -> None:
    mock, page = open_page("chat.html")
    told = page.controls()
    assert {("main", ""), ("textbox", "Your name"), ("button", "Join"), ("region", "Join the room")} <= set(told)
    enter(mock, page, "bob").drop()
    page.wait_for("state", "Reconnecting")
    told = page.controls()
    assert {
        ("heading", "Chat"),
        ("button", "Reconnect now"),
        ("complementary", "Here 2"),
        ("log", "Conversation"),
        ("form", "Say something"),
        ("textbox", "What you say"),
        ("button", "Send"),
    } <= set(told)
    assert all(name for role, name in told if role in ("button", "textbox"))
    mock, page = open_page("stream.html")
    told = page.controls()
    assert {
        ("image", "Messages per second, the last minute"),
        ("region", "Newest messages"),
        ("list", "Newest messages"),
        ("button", "Pause"),
    } <= set(told)


# The stream.


@needs_browser
def test_the_stream_is_shown_and_counted(open_page: Open) -> None:
    mock, page = open_page("stream.html")
    peer = mock.accept()
    peer.send(type="hello", source="the clock", interval=0.5, time=TIME, count=12345)
    page.wait_for("state", "Connected")
    assert page.text("source") == "the clock, every 0.5 s"
    assert page.text("count") == "12,345"
    evil = "<b>bold</b>"
    peer.send(type="update", count=12350, newest=["one", evil], time=TIME)
    page.wait_for("list", "bold")
    assert page.text("count") == "12,350"
    shown = "return [...document.querySelectorAll('#list li')].map((one) => one.textContent)"
    assert page.run(shown) == ["12,349 one", f"12,350 {evil}"]

    page.find("pause").click()
    peer.send(type="update", count=13350, newest=[f"line {number}" for number in range(50)], time=TIME)
    page.wait_for("missed", "1,000 new")
    assert page.text("count") == "13,350"
    assert page.run(shown) == ["12,349 one", f"12,350 {evil}"]
    assert page.text("pause") == "Resume"
    page.find("pause").click()
    assert page.run(shown) == ["12,349 one", f"12,350 {evil}", *(f"{13301 + i:,} line {i}" for i in range(50))]
    for number in range(10):
        peer.send(type="update", count=13400 + 50 * number, newest=["more"] * 50, time=TIME)
    page.wait_for("count", "13,850")
    assert len(page.run(shown)) == 200

    peer.drop()
    peer = mock.accept()
    peer.send(type="hello", source="poem.txt", interval=0, time=TIME, count=0)
    page.wait_for("source", "poem.txt, as fast as it goes")
    page.wait_for("state", "Connected")
    assert page.text("count") == "0"
    assert len(page.run(shown)) == 200


@needs_browser
def test_the_plot_is_also_in_words(open_page: Open) -> None:
    mock, page = open_page("stream.html")
    peer = mock.accept()
    peer.send(type="hello", source="the clock", interval=1.0, time=TIME, count=0)
    assert page.text("summary") == "Nothing measured yet."
    page.run("const now = performance.now(); performance.now = () => now")  # or seconds without a message follow
    for second in range(1, 8):  # the clock of the server may run as it likes
        peer.send(type="update", count=3 * second, newest=[], time=TIME + second)
    page.wait_for("summary", "Now 3 · least 3 · most 3 · mean 3")
    assert page.text("rate") == "3"
    labels = page.run("return [...document.querySelectorAll('#plot text')].map((one) => one.textContent)")
    assert labels == ["0", "1", "2", "3", "60 s ago", "30 s ago", "now"]
    assert page.run("return document.querySelector('#plot .bars').getAttribute('d').match(/M/g).length") == 6


@needs_browser
def test_seconds_are_counted_as_they_were(open_page: Open) -> None:
    _, page = open_page("stream.html")
    script = """
        const rate = new module.Rate();
        const last = (now, count) => rate.series(now).slice(-count);
        const results = [];
        rate.begin(1000.2, 7);
        for (let tick = 1; tick <= 5; tick++) rate.update(1000.2 + tick + (tick % 2 ? 0.02 : -0.02), 7 + tick);
        results.push(last(1005.9, 6));                          // one a second, a little early or late
        rate.update(1008.0, 112);
        results.push(last(1008.9, 4));                          // a second with none, then a hundred
        rate.update(1010.9, 117);
        rate.end(1010.95);
        results.push(last(1013.9, 7));                          // nothing is known of what has not ended
        rate.begin(1014.0, 0);
        rate.update(1014.1, 50);                                // in a second that is not ours as a whole
        rate.update(1015.4, 51);
        results.push(last(1016.9, 4));
        results.push(rate.series(2000).every((one) => one !== null), rate.series(2000).length);
        return results;
    """
    steady, burst, lost, back, *idle = page.module("rate", script)
    assert steady == [None, 1, 1, 1, 1, 1]
    assert burst == [1, 0, 0, 100]
    assert lost == [0, 100, 0, 0, None, None, None]
    assert back == [None, None, 0, 1]
    assert idle == [True, 60]


@needs_browser
@pytest.mark.parametrize("beat", [1, 2, 3, 4])
def test_a_steady_beat_does_not_waver(beat: int, open_page: Open) -> None:
    _, page = open_page("stream.html")
    script = """
        const beat = arguments[0];
        const rate = new module.Rate();
        rate.begin(1000.2, 0);
        for (let tick = 1; tick <= 10 * beat; tick++) {
          rate.update(1000.2 + tick / beat + [0, 0.05, -0.05][tick % 3], tick);  // in time, late, early
        }
        return rate.series(1009).slice(-5);
    """
    assert page.module("rate", script, beat) == [beat] * 5


@needs_browser
@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (0, ["0", "1"]),
        (1, ["0", "1"]),
        (4, ["0", "2", "4"]),
        (7, ["0", "5", "10"]),
        (2_500_000, ["0", "1M", "2M", "3M"]),
    ],
)
def test_the_axis_has_round_numbers(most: int, labels: list[str], open_page: Open) -> None:
    _, page = open_page("stream.html")
    script = """
        const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        document.body.append(svg);
        module.drawPlot(svg, [null, 0, arguments[0], null]);
        return [...svg.querySelectorAll("text")].map((one) => one.textContent);
    """
    assert page.module("plot", script, most)[:-3] == labels


@needs_browser
def test_the_waits_grow_up_to_half_a_minute_and_begin_anew_after_a_good_connection(open_page: Open) -> None:
    _, page = open_page("chat.html")
    script = """
        const waits = [];
        let now = 0;
        let last;
        window.WebSocket = class { static OPEN = 1; readyState = 1; constructor() { last = this; } close() {} };
        const timers = new Set();
        window.setTimeout = (call, time) => { timers.add(waits.length); return waits.push(time / 1000) - 1; };
        window.clearTimeout = (timer) => timers.delete(timer);
        performance.now = () => now;
        Math.random = () => 1;
        const connection = new module.Connection();
        connection.start();
        for (let attempt = 0; attempt < 7; attempt++) {
          last.onclose();
          connection.retry();
        }
        const hear = () => last.onmessage({ data: '{"type": "welcome"}' });
        hear();
        const left = timers.size;       // none that would end it
        now += 1000;
        last.onclose();                 // not a good one
        connection.retry();
        hear();
        now += 60000;
        last.onclose();
        return [waits, left];
    """
    waits, left = page.module("connection", script)
    assert left == 0
    assert waits[::2] == [10] * 9  # for the first message
    assert waits[1::2] == [1, 2, 4, 8, 16, 30, 30, 30, 1]
