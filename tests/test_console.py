"""The demo's pages are whole, typed and locked down, and nothing that they name is missing."""

import re

import pytest

from server.console import pages

PAGES = pages.load_pages()
SCRIPTS = sorted(path for path in PAGES if path.endswith(".js"))
MARKUP = PAGES["/"][2].decode()


def headers(path):
    return dict(PAGES[path][1])


def text(path):
    return PAGES[path][2].decode()


@pytest.mark.parametrize("path", PAGES)
def test_each_page_says_what_it_is_and_may_not_be_guessed(path):
    status, pairs, body = PAGES[path]
    told = dict(pairs)
    assert status == 200
    assert body
    assert len(told) == len(pairs), "a header twice"
    assert told["x-content-type-options"] == "nosniff"
    assert told["cache-control"]
    expected = {"svg": "image/svg+xml", "css": "text/css; charset=utf-8"}
    expected |= {"js": "text/javascript; charset=utf-8", "/": "text/html; charset=utf-8"}
    assert told["content-type"] == expected[path.rpartition(".")[2]]


def test_paths_are_a_plain_lookup():
    assert "/" in PAGES
    assert all(re.fullmatch(r"/(assets/[a-z0-9/-]+\.(css|js|svg))?", path) for path in PAGES)


def policy(path):
    directives = (
        directive.split() for directive in headers(path)["content-security-policy"].split(";")
    )
    return {name: sources for name, *sources in directives}


def test_the_page_runs_our_scripts_and_no_others():
    told = policy("/")
    assert told["default-src"] == ["'none'"]
    assert told["script-src"] == ["'self'"]
    assert told["connect-src"] == ["'self'"]
    assert told["frame-ancestors"] == ["'none'"]
    assert told["base-uri"] == ["'none'"]


def test_a_picture_opened_by_itself_runs_nothing():
    pictures = [path for path in PAGES if path.endswith(".svg")]
    assert len(pictures) > 100
    for path in pictures:
        assert policy(path)["default-src"] == ["'none'"]
        assert policy(path)["sandbox"] == []


def test_the_page_has_no_inline_script_style_or_handler():
    assert re.findall(r"<script(?![^>]*\bsrc=)", MARKUP) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=", MARKUP) == []


def test_everything_the_page_loads_is_ours_and_there():
    named = re.findall(r'(?:src|href)="([^"#]+)"', MARKUP)
    assert {"/assets/style.css", "/assets/main.js"} <= set(named)
    assert [address for address in named if address not in PAGES] == []


@pytest.mark.parametrize("path", SCRIPTS)
def test_modules_import_what_is_there_and_names_it_exports(path):
    imports = re.findall(r'import \{([^}]+)\} from "\./([a-z]+\.js)"', text(path))
    assert len(imports) == text(path).count("import ")
    for names, module in imports:
        exported = re.findall(
            r"export (?:async )?(?:function|const) (\w+)", text(f"/assets/{module}")
        )
        assert {name.strip() for name in names.split(",")} <= set(exported)


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_build_elements_and_never_markup(path):
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text(path))
        == []
    )


def test_nothing_comes_from_another_host():
    for path in ("/", "/assets/style.css", *SCRIPTS):
        # Namespaces and the pages that an ad request names are not fetched.
        fetched = text(path).replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"https?://(?!\$\{host\})", fetched) == []


def test_each_story_has_its_picture_and_its_section():
    stories = text("/assets/stories.js")
    pictures = re.findall(r'picture: "(\w+)"', stories)
    assert len(pictures) >= 8
    assert [name for name in pictures if f"/assets/stories/{name}.svg" not in PAGES] == []
    sections = set(re.findall(r"^  (\w+): \"", stories, re.MULTILINE))
    assert set(re.findall(r'section: "(\w+)"', stories)) == sections


def test_each_element_that_a_script_looks_for_is_in_the_page():
    ids = set(re.findall(r'\bid="([^"]+)"', MARKUP))
    wanted = {name for path in SCRIPTS for name in re.findall(r'byId\("([a-z-]+)"\)', text(path))}
    wanted |= {f"slot-{name}" for name in re.findall(r'\{ name: "(\w+)"', text("/assets/ads.js"))}
    assert wanted - ids == {"slot-feed"}  # the feed's ads go among the articles
    assert len(ids) == MARKUP.count(' id="')


@pytest.mark.parametrize(("inner", "outer"), [("label", "select"), ("label", "input")])
def test_each_control_of_the_panel_has_a_label(inner, outer):
    # Controls are built by `field` and `check` alone, and both wrap them in a label.
    script = text("/assets/audience.js")
    built = len(re.findall(rf'el\("{outer}"', script))
    assert built == {"select": 1, "input": 2}[outer]
    assert script.count(f'el("{inner}", {{ class: ') == 2
