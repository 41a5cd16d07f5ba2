"""What a test can ask of the site over HTTP, because `manage.py` takes seconds to start."""

from __future__ import annotations

import json
import time
from typing import Any

from celery import current_app
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt


@csrf_exempt
def send(request: HttpRequest) -> JsonResponse:
    """Send a task so many times; answer 202 with the ids of those that the broker has.

    It is asked once, unless `retry` wants what a project has that says nothing. With an error of the broker the answer
    is 500: what it may have, nobody was promised.
    """
    asked: dict[str, Any] = {"name": "probe.quick", "args": ["load"], "count": 1}
    asked |= {"countdown": None, "queue": None, "retry": False}
    asked |= json.loads(request.body or "{}")
    ids = [
        current_app.send_task(
            asked["name"], args=asked["args"], **{name: asked[name] for name in ("countdown", "queue", "retry")}
        ).id
        for _ in range(asked["count"])
    ]
    return JsonResponse({"ids": ids, "id": ids[0]}, status=202)


@csrf_exempt
def broadcast(request: HttpRequest) -> JsonResponse:
    """Send a command to workers, and do not wait for what they say."""
    asked = json.loads(request.body)
    current_app.control.broadcast(asked["command"], arguments=asked["arguments"], destination=asked["destination"])
    return JsonResponse({}, status=202)


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    """Keep a file as an upload, and answer with its address."""
    file = request.FILES["file"]
    return HttpResponse(default_storage.url(default_storage.save(file.name, file)))


def private(request: HttpRequest) -> HttpResponse:
    """Let nginx send a file that it sends to nobody else."""
    return HttpResponse(headers={"X-Accel-Redirect": f"/-/private/{request.GET['file']}", "Content-Type": "text/html"})


def page(request: HttpRequest) -> HttpResponse:
    """Answer after `seconds`, with `cookies` of 2000 signs; say who asks, and how long the cookies were that came."""
    time.sleep(float(request.GET.get("seconds", 0)))
    known = {"address": request.META["REMOTE_ADDR"], "cookie_signs": len(request.META.get("HTTP_COOKIE", ""))}
    answer = JsonResponse(known)
    for number in range(int(request.GET.get("cookies", 0))):
        answer.set_cookie(f"cookie-{number}", "x" * 2000, secure=True)
    return answer
