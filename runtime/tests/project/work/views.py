"""Pages."""

from django.http import HttpRequest, HttpResponse


def hello(request: HttpRequest) -> HttpResponse:
    """Answer, with a header that belongs to the deployment and not to a project."""
    return HttpResponse("hello", headers={"x-release": "the project's own idea"})


def address(request: HttpRequest) -> HttpResponse:
    """Answer with the address of whoever asks."""
    return HttpResponse(request.META["REMOTE_ADDR"])
