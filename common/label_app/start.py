"""Start MONAI Label with bundles, on this machine only; run by path, with the Python of MONAI Label's environment.

    python common/label_app/start.py BUNDLE… --studies SLIDES [--work FOLDER] [--port 8000] [--mpp MPP]
        [--origin slide|bounds]

A bundle is a folder or an exported zip. A bundle holds code, which runs here. SLIDES is the folder of slides; their
annotations are kept in SLIDES/labels. FOLDER gets copies of the bundles, which training changes, and the log.

The server listens on 127.0.0.1 only. MONAI Label asks for no password: every account and program of this machine can
use that port to read slides, change annotations and train. If others have accounts, set MULTIMAG_LABEL_TOKEN to 16 or
more letters and digits. Requests must then bring them, as the header "Authorization: Bearer TOKEN" or before the path.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent.parent
if not __package__:
    sys.path.insert(0, str(_ROOT))

from common.label_app.access import TOKEN_VARIABLE, checked_token  # noqa: E402  (found by the line above)

HOST = "127.0.0.1"
# File name endings that LocalDatastore takes for slides and for annotations.
_ENDINGS = ("svs", "tif", "tiff", "ndpi", "mrxs", "scn", "bif", "vms", "vmu", "svslide", "png", "jpg")
_LABELS = ("xml", "geojson")
_MAIN = '''"""Where MONAI Label looks for its app."""

from common.label_app.app import SlideApp


class App(SlideApp):
    """MONAI Label looks for a class in this file."""
'''


def main() -> None:
    """Start the server that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    parser.add_argument("--studies", required=True)
    parser.add_argument("--work", default="output/label_app")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--mpp", type=float, help="µm/px of slides that do not state theirs")
    parser.add_argument(
        "--origin",
        choices=("slide", "bounds"),
        help="origin of viewers' coordinates on slides with bounds (MIRAX, SCN, ...); QuPath's is the bounds",
    )
    arguments = parser.parse_args()
    try:
        token = checked_token(os.environ)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    bundles = [str(Path(bundle).resolve()) for bundle in arguments.bundles]
    for path in (*bundles, arguments.studies):
        if not Path(path).exists():
            raise SystemExit(f"error: {path}: no such file or folder")
    misplaced = [path for path in Path(arguments.studies).iterdir() if path.suffix.lower().lstrip(".") in _LABELS]
    if misplaced:
        # MONAI Label would mistake them for slides, and slides of the same name for them.
        raise SystemExit(f"error: {misplaced[0]} lies among the slides. Move annotations to a folder of their own")
    work = Path(arguments.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    (work / "main.py").write_text(_MAIN, encoding="utf-8")
    sys.stdout.write(f"MONAI Label on http://{HOST}:{arguments.port} (this machine only), log: {work / 'logs'}\n")
    if token is None:
        sys.stdout.write(f"Every account of this machine can use it; set {TOKEN_VARIABLE} to ask for a token.\n")
    else:
        sys.stdout.write(
            f"Address for viewers: http://{HOST}:{arguments.port}/TOKEN, with the value of {TOKEN_VARIABLE} as TOKEN.\n"
        )
    sys.stdout.flush()
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(work)]
    command += ["--studies", str(Path(arguments.studies).resolve()), "--host", HOST, "--port", str(arguments.port)]
    command += ["--uvicorn_app", "common.label_app.server:app"]
    # MONAI Label would otherwise ask the network for its own models.
    command += ["--conf", "bundles", json.dumps(bundles), "--conf", "zoo_source", "ngc", "--conf", "sam2", "false"]
    if arguments.mpp is not None:
        command += ["--conf", "mpp", str(arguments.mpp)]
    if arguments.origin is not None:
        command += ["--conf", "origin", arguments.origin]
    os.execve(sys.executable, command, {**os.environ, **_environment()})


def _environment() -> dict[str, str]:
    endings = [one for ending in (*_ENDINGS, *_LABELS) for one in (ending, ending.upper())]
    path = [str(_HERE / "compat"), str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "PYTHONPATH": os.pathsep.join(path),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*.{ending}" for ending in endings]),
        # Training on several GPUs calls torchrun.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        # Sessions are uploads to folders of their own; slides are reached only by their ids.
        "MONAI_LABEL_SESSIONS": "false",
    }


if __name__ == "__main__":
    main()
