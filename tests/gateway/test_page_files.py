"""What the page is made of, without a browser."""

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

of_the_gateway = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).parents[2]
STATIC = files("gateway.page") / "static"
SCRIPTS = sorted(each.name for each in STATIC.iterdir() if each.name.endswith(".js"))
NAMES = sorted(each.name for each in STATIC.iterdir())


class Elements(HTMLParser):
    """All elements of a document, with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@of_the_gateway
async def test_the_page_is_for_everybody_and_lets_nothing_in_from_elsewhere(http):
    response = await http.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = response.headers["content-security-policy"]
    directives = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert set(directives.values()) == {"'none'", "'self'", "'script'"}
    assert directives["require-trusted-types-for"] == "'script'"


@of_the_gateway
@pytest.mark.parametrize("name", NAMES)
async def test_each_file_of_the_page_is_served_and_not_sent_twice(http, name):
    path = "/" if name == "index.html" else f"/page/{name}"
    response = await http.get(path)
    assert response.content == (STATIC / name).read_bytes()
    again = await http.get(path, headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@of_the_gateway
@pytest.mark.parametrize("name", ["nothing.js", "..%2ffiles.py", "%2e%2e"])
async def test_nothing_else_is_served(http, name):
    response = await http.get(f"/page/{name}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_the_page_is_part_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["gateway.page"]
    assert all(any(fnmatch(f"static/{name}", each) for each in patterns) for name in NAMES)


def test_the_page_loads_only_what_is_there():
    elements = Elements((STATIC / "index.html").read_text()).found
    loaded = {
        each
        for _, attributes in elements
        for key in ("src", "href")
        if (each := attributes.get(key))
    }
    for name in SCRIPTS:
        imports = re.findall(r'from "\./(.+)"', (STATIC / name).read_text())
        loaded |= {f"/page/{each}" for each in imports}
    assert loaded == {f"/page/{each}" for each in NAMES if each != "index.html"}
    assert not any("style" in attributes for _, attributes in elements)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_is_a_module_without_mistakes_that_makes_no_markup(name):
    text = (STATIC / name).read_text()
    node, _ = pytest.importorskip("playwright._impl._driver").compute_driver_executable()
    checked = subprocess.run(
        [node, "--check", "--input-type=module"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
    assert max(map(len, text.splitlines())) <= 120


def test_each_element_that_scripts_name_is_there():
    elements = Elements((STATIC / "index.html").read_text()).found
    known = {attributes.get("id") for _, attributes in elements}
    for name in SCRIPTS:
        named = set(re.findall(r'byId\("([^"]+)"\)', (STATIC / name).read_text()))
        assert named <= known, name
