# Sourced by run.sh and train.sh: makes this project and what it needs importable, whatever the current folder.
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
python="${PYTHON:-python3}"
site="$(mktemp -d)"
trap 'rm -rf "$site"' EXIT
missing() {
    "$python" - <<'PYTHON'
from importlib.util import find_spec

needed = [
    *("torch", "monai", "ignite", "fire", "imagecodecs", "tifffile", "simplejpeg", "openslide", "openslide_bin"),
    *("shapely", "zarr", "cv2", "psutil"),
]
print(" ".join(name for name in needed if find_spec(name) is None))
PYTHON
}
# Not from the current folder, which may hold other modules of these names.
export PYTHONSAFEPATH=1
export PYTHONPATH="$repository:$repository/tests/benchmarks:$site${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 TQDM_DISABLE=1
if [[ -n "$(missing)" ]] && compgen -G "$repository/.whl/*.whl" > /dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" \
        "$repository"/.whl/*.whl
fi
lacking="$(missing)"
if [[ -n "$lacking" ]]; then
    echo "$python lacks $lacking. Run tests/gpu/wheels.sh where there is a network and bring .whl/ along" >&2
    exit 2
fi
# Where the project is not installed, its bundles are still the package multimag.
ln -sfn "$repository/bundles" "$site/multimag"
