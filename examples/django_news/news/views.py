from django.contrib.auth import authenticate, login
from django.db import IntegrityError, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from gateway.outbox.django import publish
from news.models import Article


@require_POST
def log_in(request: HttpRequest) -> JsonResponse:
    user = authenticate(request, username=request.POST["name"], password=request.POST["password"])
    if user is None:
        return JsonResponse({"error": "wrong name or password"}, status=403)
    login(request, user)
    return JsonResponse({"user": user.username})


@require_POST
def articles(request: HttpRequest) -> JsonResponse:
    if not request.user.is_authenticated:
        return JsonResponse({"error": "log in first"}, status=403)
    title = request.POST["title"]
    try:
        with transaction.atomic():
            # It does not matter what comes first: both happen, or neither.
            publish("news", {"title": title, "author": request.user.username})
            article = Article.objects.create(title=title, author=request.user)
    except IntegrityError:
        return JsonResponse({"error": "there is such an article"}, status=409)
    return JsonResponse({"id": article.id}, status=201)


urlpatterns = [path("login", log_in), path("articles", articles)]
