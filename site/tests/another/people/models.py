"""A user without a name: the e-mail address is what one logs in with."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models


class People(UserManager["Person"]):
    """Makes users by their addresses."""

    def create_superuser(self, email: str, password: str, **fields: Any) -> "Person":  # type: ignore[override]
        """Make one who may do everything."""
        person = self.model(email=email, is_staff=True, is_superuser=True, **fields)
        person.set_password(password)
        person.save()
        return person


class Person(AbstractUser):
    """Somebody."""

    username = None  # type: ignore[assignment]
    email = models.EmailField(unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[People] = People()  # type: ignore[assignment]
