"""The page: whole, escaped, and alive in a browser."""

import base64
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser

import pytest
from integration.tiny import loader, quick, task, trainer

from segaudit.callbacks import AuditCheckpoint
from segaudit.report import write_report
from segaudit.selection import Tolerant

VOID = {"meta", "link", "img", "input"}


class Outline(HTMLParser):
    """Checks that tags close in order, and keeps what a browser would fetch or run."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.handlers, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="session")
def page(audited, tmp_path_factory):
    return write_report([audited[0]], tmp_path_factory.mktemp("page") / "report.html")


def test_it_is_whole_and_asks_nobody(page):
    text = page.read_text()
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert outline.handlers == []
    assert all(address.startswith(("data:", "#")) for address in outline.addresses)
    assert "http" not in re.sub(r"data:image/png;base64,[\w+/=]+", "", text.replace("http-equiv", ""))
    assert "default-src 'none'" in text


def test_everything_from_data_is_escaped(page, evil):
    text = page.read_text()
    assert evil not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_it_says_what_the_summary_says(page, audited):
    text, (_, summary) = page.read_text(), audited
    (part,) = summary["parts"]
    for row in part["scores"]:
        if row["mean"] is not None and row["score"] not in summary["shared"]:
            assert f'data-v="{row["mean"]}"' in text
    for word in ("Verdict", "Curves", "Worst cases", "By class", "Provenance", "Limits of the method"):
        assert word in text
    for heading in summary["provenance"]["versions"]:
        assert heading in text


def test_an_audit_writes_the_page_by_itself(audited):
    folder, _ = audited
    assert "Verdict" in (folder / "audit" / "report.html").read_text()


def test_two_runs_are_compared(audited, tmp_path):
    folder, _ = audited
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    text = write_report([folder, other], tmp_path / "two.html").read_text()
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert 'id="comparison"' in text


def test_it_says_which_checkpoint_was_kept_and_why(tmp_path):
    rule = Tolerant("audit/saliency/off_target_leakage", tolerance=0.5)
    keep = AuditCheckpoint(rule)
    loop = trainer(quick(), keep, folder=tmp_path, enable_checkpointing=True, max_epochs=2)
    loop.fit(task(), loader(8, train=True), loader(4))
    text = unescape(write_report([tmp_path / "version_0"], tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Which checkpoint, and why" in text
    assert str(rule) in text
    for one in rule.rank(keep.candidates):
        assert one.why in text
        assert f"{one.candidate.values['val/iou']:.3f}" in text


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(ValueError, match="holds no run: it has neither"):
        write_report([tmp_path], tmp_path / "a.html")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_report([tmp_path / "b"], tmp_path / "a.html")
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(ValueError, match="is not the summary of an audit"):
        write_report([tmp_path], tmp_path / "a.html")
    (tmp_path / "summary.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="written by another version"):
        write_report([tmp_path], tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


@pytest.fixture
def browser():
    """Headless Chromium with the network off."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("Chromium and chromedriver are missing (Debian: apt install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "window-size=1280,900",
        "disable-background-networking", "disable-component-update", "disable-sync",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.execute_cdp_cmd("Network.enable", {})
    chrome.execute_cdp_cmd(
        "Network.emulateNetworkConditions", {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    )
    yield chrome
    chrome.quit()


def column(browser, table, place):
    script = """return [...document.querySelectorAll('table.data')[arguments[0]].tBodies[0].rows]
                .filter(row => !row.hidden).map(row => row.cells[arguments[1]]).map(c => c.dataset.v ?? c.textContent)"""
    return browser.execute_script(script, table, place)


def test_in_a_browser_with_the_network_off(browser, page):
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.querySelectorAll('main section').length") >= 3

    # sorting: by a number, both ways, and back to the names
    rows = column(browser, 0, 0)
    heading = "document.querySelectorAll('table.data')[0].tHead.rows[0].cells[arguments[0]]"
    for place in (1, 0):
        browser.execute_script(f"{heading}.querySelector('button').click()", place)
        assert browser.execute_script(f"return {heading}.getAttribute('aria-sort')", place) == "ascending"
        found = column(browser, 0, place)
        assert found == sorted(found, key=float if place else str.lower)
        assert sorted(column(browser, 0, 0)) == sorted(rows)
    browser.execute_script(f"{heading}.querySelector('button').click()", 1)
    browser.execute_script(f"{heading}.querySelector('button').click()", 1)
    found = column(browser, 0, 1)
    assert found == sorted(found, key=float, reverse=True)

    # filtering
    script = """const input = document.querySelector('.filter input'); input.value = arguments[0];
                input.dispatchEvent(new Event('input'))"""
    browser.execute_script(script, "GRAD")
    assert 0 < len(column(browser, 0, 0)) < len(rows)
    assert all("grad" in name.lower() for name in column(browser, 0, 0))
    browser.execute_script(script, "no such thing")
    assert column(browser, 0, 0) == []
    browser.execute_script(script, "")
    assert len(column(browser, 0, 0)) == len(rows)

    # pictures
    sizes = browser.execute_script("return [...document.images].map(image => image.complete && image.naturalWidth)")
    assert len(sizes) >= 2
    assert all(sizes)
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (360, "light"), (1400, "dark")])
def test_no_page_is_wider_than_the_window(browser, page, width, scheme):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    back, text = browser.execute_script(
        "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color].map(c => Number(c.match(/\\d+/)[0]))"
    )
    assert (back < text) == (scheme == "dark")
    assert base64.b64decode(browser.get_screenshot_as_base64()).startswith(b"\x89PNG")
