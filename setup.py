"Hands the metadata of settings.ini to setuptools, so that it is written in one place only."

import shlex
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(HERE / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]

names = ("study", "dask", "hub", "onnx", "transformers", "torchjd", "dev")
extras = {name: shlex.split(cfg[f"{name}_requirements"]) for name in names}
extras["dev"] += extras["study"] + extras["dask"] + extras["hub"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    url=cfg["git_url"],
    license={"apache2": "Apache-2.0"}[cfg["license"]],
    keywords=cfg["keywords"],
    classifiers=["Programming Language :: Python :: 3", "Intended Audience :: " + cfg["audience"]],
    packages=find_packages(HERE, include=[cfg["lib_path"], cfg["lib_path"] + ".*"]),
    python_requires=">=" + cfg["min_python"],
    install_requires=shlex.split(cfg["requirements"]),
    extras_require=extras,
    entry_points={"nbdev": [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
)
