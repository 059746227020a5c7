"""The local web server of ``mdetr play``."""

import math
import re
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs

from mdetr_model.inference.images import ImageError
from mdetr_model.inference.pairs import images_of_folder
from mdetr_model.inference.play_pages import PlayPages
from mdetr_model.model_folder import read_model
from schemas.limits import MAX_IMAGE_FILE_BYTES
from shards.local_server import LocalRequestHandler, LocalServer, RequestError, Response
from shards.terminal import error_text


class PlayServer(LocalServer):
    """Serves a page that grounds captions; port 0 is any free port.

    Args:
        model_folder: folder of the model and its processor.
        images: folder of images to choose from.
        threshold: the page's initial minimum score.
        port: on the loopback interface.

    Raises:
        OSError: the port is taken, or the model or the folder cannot be read.
    """

    def __init__(
        self, model_folder: Path, images: Path | None, threshold: float, port: int
    ) -> None:
        examples = [] if images is None else images_of_folder(images)
        model, processor = read_model(model_folder)
        self.pages = PlayPages(str(model_folder), model, processor, examples, threshold)
        super().__init__(port, _PlayHandler)


class _PlayHandler(LocalRequestHandler):
    server: PlayServer
    methods = ("GET", "HEAD", "POST")
    image_sources = "data: blob:"

    def respond(self, path: str, query: str) -> Response:
        pages = self.server.pages
        if (self.command == "POST") != (path == "/ground"):
            raise RequestError(HTTPStatus.NOT_FOUND, "There is no such page.")
        match path:
            case "/":
                return Response(pages.page().encode())
            case "/style.css":
                return Response(pages.file("play.css").encode(), "text/css; charset=utf-8")
            case "/play.js":
                return Response(pages.file("play.js").encode(), "text/javascript; charset=utf-8")
            case "/ground":
                return self._ground(query)
        return self._example(path)

    def failure(self, status: HTTPStatus, message: str) -> Response:
        return Response(message.encode(), "text/plain; charset=utf-8", status)

    def _ground(self, query: str) -> Response:
        content = self.read_body(MAX_IMAGE_FILE_BYTES)
        caption, threshold = _parse(query)
        try:
            return Response(self.server.pages.result(content, caption, threshold).encode())
        except ImageError as error:
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, _sentence(error)) from error
        except ValueError as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, _sentence(error)) from error

    def _example(self, path: str) -> Response:
        match = re.fullmatch(r"/(example|thumbnail)/([0-9]{1,9})", path)
        if match is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "There is no such page.")
        pages, number = self.server.pages, int(match[2])
        try:
            if match[1] == "thumbnail":
                return Response(pages.thumbnail(number), "image/jpeg")
            return Response(pages.example(number), "application/octet-stream")
        except IndexError as error:
            raise RequestError(HTTPStatus.NOT_FOUND, "There is no such image.") from error
        except (OSError, ImageError) as error:
            message = f"The image cannot be shown: {error_text(error)}"
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message) from error


def _parse(query: str) -> tuple[str, float]:
    """Returns the caption and the threshold of a query.

    Raises:
        RequestError: the query does not have exactly these.
    """
    try:
        values = parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=2)
        [caption], [threshold] = values["caption"], values["threshold"]
        score = float(threshold)
    except (KeyError, ValueError) as error:
        message = "Expected a caption, and a minimum score from 0 to 1."
        raise RequestError(HTTPStatus.BAD_REQUEST, message) from error
    if math.isnan(score) or not 0 <= score <= 1:
        raise RequestError(HTTPStatus.BAD_REQUEST, "The minimum score must be from 0 to 1.")
    return caption, score


def _sentence(error: Exception) -> str:
    message = str(error).rstrip(".")
    return f"{message[:1].upper()}{message[1:]}."
