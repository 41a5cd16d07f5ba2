"""Posts and reports in the admin. Results, schedules and tokens bring their own pages."""

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest

from app.models import DailyReport, Post

admin.site.site_header = "TimeOut"
admin.site.site_title = "TimeOut"
admin.site.index_title = "Posts, schedules and results"


@admin.register(Post)
class PostAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # takes none when it runs
    """Edits the text of posts; the counter is the tasks' alone."""

    list_display = ("title", "view_count", "created_at")
    search_fields = ("title", "text")
    readonly_fields = ("view_count", "created_at")

    def save_model(self, request: HttpRequest, obj: Post, form: "ModelForm[Post]", change: bool) -> None:
        """Write only what was edited: the whole row would undo views counted in the meantime."""
        obj.save(update_fields=form.changed_data if change else None)


@admin.register(DailyReport)
class DailyReportAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows the reports; they are what they were."""

    list_display = ("day", "text")

    def has_add_permission(self, request: HttpRequest, obj: DailyReport | None = None) -> bool:
        """Leave writing to the task, and what it wrote as it is."""
        return False

    has_change_permission = has_add_permission
