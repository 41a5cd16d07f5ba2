"""The form that starts a task: one field for each parameter, made from the task's signature."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from celeriac.registry import Parameter, Registered

# What a parameter may be called is for the task to say, so its field has a name that no other field has.
PREFIX = "arg-"


class JSONText(forms.CharField):
    """A text area that holds JSON, and gives what the JSON says."""

    default_error_messages: ClassVar[dict[str, Any]] = {
        "json": _('This is not JSON. Text stands in double quotes: "like this".'),
    }

    def __init__(self, *, rows: int = 1, **kwargs: Any) -> None:
        super().__init__(widget=forms.Textarea(attrs={"rows": rows, "spellcheck": "false"}), **kwargs)

    def clean(self, value: Any) -> Any:
        """Return the value, None for an empty field.

        Raises:
            forms.ValidationError: it is not JSON. What Python takes beyond that, such as NaN, the catalogue refuses.
        """
        text = super().clean(value)
        if not text:
            return None
        try:
            return json.loads(text)
        # RecursionError: nested deeper than Python can follow.
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(self.error_messages["json"], code="json") from error


class NumberField(forms.FloatField):
    """A number that is whole where it was typed so, for a task that tells 2 from 2.0."""

    def clean(self, value: Any) -> int | float | None:
        """Return the number, None for an empty field.

        Raises:
            forms.ValidationError: it is none, or none that is finite.
        """
        number: float | None = super().clean(value)
        if number is None:
            return None
        try:
            return int(value)
        except ValueError:
            return number


class StartForm(forms.Form):
    """What a task is started with: its arguments, its priority, and when at the earliest."""

    priority = forms.IntegerField(
        label=_("Priority"),
        min_value=0,
        max_value=9,
        required=False,
        help_text=_("0 to 9, 9 first; empty for the default."),
    )
    countdown = forms.FloatField(
        label=_("Countdown"),
        min_value=0,
        required=False,
        help_text=_("Not before so many seconds from now; empty for at once."),
    )

    def __init__(self, task: Registered, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        self.task = task
        own = {PREFIX + parameter.name: _field(parameter) for parameter in task.parameters}
        self.fields = {**own, **self.fields}

    def clean(self) -> dict[str, Any]:
        """Refuse what cannot stand for all the rest of a call: a list for `*args`, an object for `**kwargs`."""
        values = super().clean() or {}
        for parameter in self.task.parameters:
            value = values.get(PREFIX + parameter.name)
            if parameter.variadic == "*" and not isinstance(value, list | None):
                self.add_error(PREFIX + parameter.name, _('This is not a JSON list, such as [1, "two"].'))
            if parameter.variadic == "**" and not isinstance(value, dict | None):
                self.add_error(PREFIX + parameter.name, _('This is not a JSON object, such as {"one": 1}.'))
        return values

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Return args and kwargs, after `is_valid`. What was left empty is left to the task's own default."""
        values = {parameter: self.cleaned_data[PREFIX + parameter.name] for parameter in self.task.parameters}
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter, value in values.items():
            if parameter.variadic == "*" and value:
                # Values after the named ones can only be given by position, and so must be all before them.
                before = list(values)[: list(values).index(parameter)]
                args = [kwargs.pop(each.name, each.default) for each in before] + value
            elif parameter.variadic == "**":
                kwargs.update(value or {})
            elif not parameter.variadic and self._is_given(parameter, value):
                kwargs[parameter.name] = value
        return args, kwargs

    def _is_given(self, parameter: Parameter, value: Any) -> bool:
        """Whether the person said something: an empty field of a parameter with a default says nothing."""
        if parameter.required:
            return True
        typed = self.data.get(PREFIX + parameter.name)
        if parameter.kind == "json":
            return bool((typed or "").strip())
        # Where the default is text, an emptied field is the empty text; where None may stand for a number, it is None.
        if parameter.kind == "str" and value == "":
            return typed is not None and isinstance(parameter.default, str) and parameter.default != ""
        if value is None:
            return typed is not None and parameter.nullable and parameter.default is not None
        return bool(value != parameter.default)

    def blame(self, problems: Mapping[str, str]) -> None:
        """Show each problem of the catalogue at its field, or above the form where there is no such field."""
        for name, text in problems.items():
            # "rest[0]" is the first value of `*rest`.
            parameter, bracket, index = name.partition("[")
            field = next((field for field in (PREFIX + parameter, name) if field in self.fields), None)
            where = f"{bracket}{index} " if field else f"{name} " if name else ""
            self.add_error(field, where + text)


# The fields of those kinds that are a number.
NUMBERS: dict[str, type[forms.Field]] = {
    "int": forms.IntegerField,
    "float": forms.FloatField,
    "number": NumberField,
    "decimal": forms.DecimalField,
}


def _field(parameter: Parameter) -> forms.Field:
    """Return the field of one parameter."""
    default = parameter.default
    shown: dict[str, Any] = {
        "label": parameter.variadic + parameter.name,
        "required": parameter.required and not (parameter.nullable and parameter.kind in NUMBERS),
    }
    if parameter.variadic:
        example = '[1, "two"]' if parameter.variadic == "*" else '{"one": 1}'
        return JSONText(**{**shown, "required": False}, rows=2, help_text=_("JSON, for example %s") % example)
    match parameter.kind:
        case "str":
            # Exactly as it was typed: spaces at the ends may be meant.
            return forms.CharField(**shown, strip=False, initial=default, help_text=_hint(parameter, _("Text")))
        case "int":
            return forms.IntegerField(**shown, initial=default, help_text=_hint(parameter, _("Whole number")))
        case "float" | "number" | "decimal":
            return NUMBERS[parameter.kind](
                **shown,
                initial=default,
                help_text=_hint(parameter, _("Number")),
                widget=forms.NumberInput(attrs={"step": "any"}),
            )
        case "bool":
            # A box that is not ticked is an answer too.
            return forms.BooleanField(label=parameter.name, required=False, initial=bool(default))
    return JSONText(**shown, help_text=_hint(parameter, _('JSON: 2, "text", [1, 2], {"a": 1}')))


def _hint(parameter: Parameter, kind: Promise) -> str:
    """Return what goes into a field, and what stands for it when it is left empty."""
    number_or_none = parameter.nullable and parameter.kind in NUMBERS
    if parameter.required and not number_or_none:
        return str(kind)
    default = None if number_or_none else parameter.default
    return _("%(kind)s; empty for %(default)s") % {
        "kind": kind,
        "default": json.dumps(default, ensure_ascii=False, default=str),
    }
