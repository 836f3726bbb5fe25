"""MONAI Label's folder of slides and annotations, kept to that folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .request_values import RequestError, checked_name


class StudiesOnly:
    """Mixin before MONAI Label's local datastore that keeps it to its folder.

    Ids and tags of requests become names of files there, so they must not be paths. Files are never overwritten through
    a link, and slides never replaced.
    """

    _datastore: Any

    def get_image(self, image_id: str, *more: Any) -> Any:
        """Return a slide's bytes."""
        return super().get_image(checked_name(image_id), *more)  # type: ignore[misc]

    def get_image_uri(self, image_id: str) -> str:
        """Return a slide's path; empty if there is none."""
        return super().get_image_uri(checked_name(image_id))  # type: ignore[misc]

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Return the datastore's information on a slide."""
        return super().get_image_info(checked_name(image_id))  # type: ignore[misc]

    def get_label(self, label_id: str, label_tag: str, *more: Any) -> Any:
        """Return an annotation's bytes."""
        return super().get_label(checked_name(label_id), checked_name(label_tag, "a tag"), *more)  # type: ignore[misc]

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Return an annotation's path; empty if there is none."""
        return super().get_label_uri(checked_name(label_id), checked_name(label_tag, "a tag"))  # type: ignore[misc]

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Copy a slide into the folder."""
        checked_name(image_id)
        self._check_free(Path(self._datastore.image_path()), image_id)
        return super().add_image(image_id, image_filename, image_info)  # type: ignore[misc]

    def remove_image(self, image_id: str) -> None:
        """Delete a slide and its annotations."""
        super().remove_image(checked_name(image_id))  # type: ignore[misc]

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Copy an annotation into the folder."""
        checked_name(image_id)
        folder = Path(self._datastore.label_path(checked_name(label_tag, "a tag")))
        _check_no_link(folder, image_id)
        return super().save_label(image_id, label_filename, label_tag, label_info)  # type: ignore[misc]

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Delete an annotation."""
        super().remove_label(checked_name(label_id), checked_name(label_tag, "a tag"))  # type: ignore[misc]

    def _check_free(self, folder: Path, image_id: str) -> None:
        _check_no_link(folder, image_id)
        if super().get_image_uri(image_id):  # type: ignore[misc]
            raise RequestError(f"There is a slide {image_id!r} already. Give another name, or remove that one first")


def _check_no_link(folder: Path, name: str) -> None:
    entries = folder.iterdir() if folder.is_dir() else ()
    if any(entry.is_symlink() and entry.name.startswith(name) for entry in entries):
        raise RequestError(f"{name!r} is a link to a file elsewhere, which is not written to")
