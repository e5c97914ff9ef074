"""How the pages become a site: ``make docs`` writes it to build/docs, and fails on the first warning."""

from __future__ import annotations

import os

os.environ["FRAMEWIRE_CORE"] = "py"  # the reference: its docstrings and signatures are those of both cores

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import GoogleDocstring

import framewire

project = "framewire"
release = version = framewire.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_static", "pictures"]
default_role = "mention"
smartquotes = False  # the host "" is no typography
suppress_warnings = ["ref.python"]  # names that several modules have, such as Listener: the nearest is meant
nitpicky = False  # most single backticks in docstrings are arguments, which are no targets

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_theme_options = {"light_css_variables": {"color-code-background": "#f3f4f6"}}
html_title = "framewire"
html_static_path = ["_static"]
html_css_files = ["framewire.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"


class Mention(PyXRefRole):
    """`Decoder.feed` between single backticks: a link if that is documented somewhere, else code."""

    def process_link(
        self, env: BuildEnvironment, refnode: nodes.Element, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        title, target = super().process_link(env, refnode, has_explicit_title, title, target)
        refnode["refdomain"], refnode["reftype"] = "py", "obj"
        if "." in target or target != target.lower():
            refnode["refspecific"] = True  # look for it in other modules, too
        return title, target


# In the docstring of a property, napoleon takes what stands before the first colon for a type. Ours are sentences.
GoogleDocstring._parse_attribute_docstring = lambda self: self._dedent(self._consume_to_end())


def setup(app: Sphinx) -> None:
    app.add_role("mention", Mention())
