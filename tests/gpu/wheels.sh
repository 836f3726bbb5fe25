#!/usr/bin/env bash
# Collect in .whl/ the packages that a GPU machine with PyTorch and the usual scientific Python lacks, as wheels for
# Python 3.12 on Linux; run.sh and train.sh use them there without a network.
set -euo pipefail
cd "$(dirname "$0")/../.."
python="${PYTHON:-python3}"
# With the repository at most 64 MiB, which is what can be brought along.
limit_mib=44
packages=(
    monai pytorch-ignite fire termcolor
    imagecodecs simplejpeg openslide-python openslide-bin
    shapely zarr numcodecs donfig google-crc32c
    ruamel.yaml
)
mkdir -p .whl
rm -f .whl/*.whl
platforms=()
for platform in manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux1_x86_64; do
    platforms+=(--platform "$platform")
done
"$python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp "${platforms[@]}" --constraint constraints.txt --dest .whl "${packages[@]}"
size_mib=$(($(du --total --block-size=1K .whl/*.whl | tail -1 | cut -f1) / 1024))
echo "$(ls .whl/*.whl | wc -l) wheels, $size_mib MiB, in .whl/"
if ((size_mib > limit_mib)); then
    echo "they are to be at most $limit_mib MiB" >&2
    exit 1
fi
