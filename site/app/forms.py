"""The form with the addresses of e-mails."""

from django import forms
from django.utils.translation import gettext_lazy as _

from app import mail


class EmailsForm(forms.Form):
    """Where e-mails are sent to."""

    addresses = forms.CharField(
        label=_("Addresses"),
        widget=forms.Textarea(attrs={"rows": 10, "spellcheck": "false"}),
        help_text=_("One on each line. Those of example.org belong to nobody."),
        initial="\n".join(mail.EXAMPLES),
    )

    def clean_addresses(self) -> list[str]:
        """Return them one by one."""
        return [line.strip() for line in self.cleaned_data["addresses"].splitlines() if line.strip()]
