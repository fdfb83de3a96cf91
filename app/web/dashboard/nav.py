"""The sections of the dashboard, and who sees which."""

from dataclasses import dataclass

from app.web.guard import Visit


@dataclass(frozen=True, slots=True)
class Section:
    """`name` is its message in templates/layout.html; `operators`: only for those who run the bot."""

    path: str
    name: str
    icon: str
    operators: bool = False


SECTIONS = (
    Section("/", "incidents", "pulse"),
    Section("/approvals", "approvals", "checklist"),
    Section("/repositories", "repositories", "repo"),
    Section("/models", "models", "stack"),
    Section("/insights", "insights", "graph"),
    Section("/deliveries", "deliveries", "webhook"),
    Section("/simulator", "simulator", "beaker"),
    Section("/audit", "audit", "log"),
    Section("/settings", "settings", "gear"),
    Section("/system", "system", "server", operators=True),
)


def sections_for(visit: Visit | None) -> tuple[Section, ...]:
    if visit is None or visit.identity is None:
        return ()
    return tuple(section for section in SECTIONS if visit.sight.everything or not section.operators)
