"""Print a CycloneDX bill of materials (JSON 1.6) for a wheel of Portunus and the packages of ``constraints.txt``.

    bill_of_materials.py WHEEL

Each package has its version, the hashes of all files that may be installed, its licence and its dependencies. Licences
and dependencies are those of the packages in this environment. The same wheel and pins give the same bytes:
``SOURCE_DATE_EPOCH`` is the time of the document, and its serial number is computed from the wheel.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import Distribution, distribution
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
BUILD_TOOLS = {"setuptools"}  # they are needed to build the wheel, and not by the gateway
OTHER_NAMES = {  # licences that packages state in words, by SPDX identifier
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "MIT License": "MIT",
}
OWN_DECLARATIONS = {"uvloop": "Apache-2.0 OR MIT"}  # its classifiers name both, its field ``License`` one
_block = re.compile(r"^([a-z0-9-]+)==(\S+).*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", re.M)


def main(wheel: Path) -> None:
    """Print the document."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    name, version, _, _ = parse_wheel_filename(wheel.name)
    portunus = _component(name, str(version), [digest], ComponentType.APPLICATION)
    packages = {
        found[1]: _component(found[1], found[2], re.findall(r"sha256:(\w+)", found[0]), ComponentType.LIBRARY)
        for found in _block.finditer(CONSTRAINTS.read_text())
    }
    bom = Bom(components=packages.values(), serial_number=uuid5(NAMESPACE_URL, f"urn:sha256:{digest}"))
    bom.metadata.component = portunus
    bom.metadata.timestamp = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    for component in (portunus, *packages.values()):
        needed = _requirements(distribution(component.name), packages)
        bom.register_dependency(component, [packages[name] for name in needed])
    sys.stdout.write(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")


def _component(name: str, version: str, digests: Iterable[str], type: ComponentType) -> Component:
    purl = PackageURL("generic" if type is ComponentType.APPLICATION else "pypi", name=name, version=version)
    return Component(
        name=name,
        version=version,
        type=type,
        scope=ComponentScope.EXCLUDED if name in BUILD_TOOLS else ComponentScope.REQUIRED,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in digests],
        licenses=[_licence(name)],
    )


def _licence(name: str) -> License:
    metadata = distribution(name).metadata
    stated = OWN_DECLARATIONS.get(name) or metadata["License-Expression"] or metadata["License"]
    if not stated:
        raise ValueError(f"{name} states no licence: add it to OWN_DECLARATIONS")
    return LicenseFactory().make_from_string(OTHER_NAMES.get(stated, stated))


def _requirements(installed: Distribution, packages: dict[str, Component]) -> list[str]:
    """Return the pinned packages that a distribution may need on some platform, without its extras."""
    requirements = [Requirement(text) for text in installed.requires or []]
    names: set[str] = {canonicalize_name(it.name) for it in requirements if "extra ==" not in str(it.marker or "")}
    return sorted(names & packages.keys())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
